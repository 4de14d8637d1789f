//! Values that clones share until one of them changes.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A value that clones share until one of them changes it, which first makes a copy of its own. A view whose profiles
/// change then costs nothing for the refs that do not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shared<T>(Arc<T>);

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T: FromIterator<A>, A> FromIterator<A> for Shared<T> {
    fn from_iter<I: IntoIterator<Item = A>>(items: I) -> Self {
        Self::from(T::from_iter(items))
    }
}

impl<'a, T> IntoIterator for &'a Shared<T>
where
    &'a T: IntoIterator,
{
    type Item = <&'a T as IntoIterator>::Item;
    type IntoIter = <&'a T as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_in_the_changed_one_alone() {
        let one: Shared<Vec<u8>> = [1, 2].into_iter().collect();
        let mut two = one.clone();
        assert!(std::ptr::eq(&*one, &*two));
        two.push(3);
        assert_eq!((&one[..], &two[..]), (&[1, 2][..], &[1, 2, 3][..]));
    }
}
