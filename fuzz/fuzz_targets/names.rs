//! Names, versions, channels, platforms, profiles and SPECs: what is read is written alike, and versions have one order.
#![no_main]

use std::fmt::Display;
use std::str::FromStr;

use cairn_store::{Channel, Name, Platform, ProfileName, Spec, Version};
use libfuzzer_sys::fuzz_target;

fn same<T: FromStr + Display + PartialEq>(text: &str) -> Option<T> {
    let value: T = text.parse().ok()?;
    let written = value.to_string();
    assert!(written == text, "{text:?} is written {written:?}");
    Some(value)
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut versions = Vec::new();
    for line in text.split('\n').take(8) {
        same::<Name>(line);
        same::<Channel>(line);
        same::<Platform>(line);
        same::<ProfileName>(line);
        versions.extend(same::<Version>(line));
        if let Ok(spec) = line.parse::<Spec>()
            && let Spec::Version { .. } = spec
        {
            assert_eq!(spec.to_string().parse::<Spec>().ok(), Some(spec));
        }
    }
    for a in &versions {
        for b in &versions {
            assert_eq!(a.cmp(b), b.cmp(a).reverse());
            assert_eq!(a.cmp(b).is_eq(), a == b);
            for c in &versions {
                assert!(!(a <= b && b <= c) || a <= c, "{a} {b} {c}");
            }
        }
    }
});
