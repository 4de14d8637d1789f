# What a machine that has Python runs so that only what lacks travels: it reads one file, answers what is asked on its standard
# input, and writes no file. Given by argument: a mark and the path. Numbers are little-endian. It says
#   the mark on a line of its own and the letter P, and, when it could open the file,
#   1 byte whether there is xz, 1 byte processors, 8 bytes length of the file
# and keeps a list of parts of the file, which first is the whole. It is asked
#   W                    the list is the whole file again
#   B u32 size u8 n u8 m for each m-th whole block of `size` bytes of the list, from the first on: its CRC-32 and n bytes of
#                        its SHA-256
#   K u32 size u32 len   and len bytes of zlib: a bit for each of these blocks, those with 0 leave the list
#   H                    the SHA-256 of the file
#   D u8 how u8 preset u8 filter u32 size u8 threads
#                        what the list has, in segments of `size` bytes, each compressed; in frames of a u32 length and that many
#                        bytes, the last of which is empty. how: 1 gzip, 2 xz
import sys, os, hashlib, zlib
from struct import unpack
from collections import deque
try:
 import lzma
except ImportError:
 lzma = None
if sys.version_info < (3, 4):
 sys.exit(42)
I = sys.stdin.buffer
O = sys.stdout.buffer
def take(n):
 b = I.read(n)
 if len(b) < n:
  sys.exit(0)
 return b
def part(s, n):
 b = os.pread(F, n, s)
 while len(b) < n:
  c = os.pread(F, n - len(b), s + len(b))
  if not c:
   raise EOFError("the file became shorter")
  b += c
 return b
def sums(z, k, every):
 r = bytearray()
 m = max(1, (1 << 20) // z)
 a = 0
 for s, e in L:
  while e - s >= z:
   n = min(m, (e - s) // z)
   v = memoryview(part(s, n * z))
   for i in range(a, n, every):
    b = v[i * z:i * z + z]
    r += zlib.crc32(b).to_bytes(4, "little")
    if k:
     r += hashlib.sha256(b).digest()[:k]
   a = (a - n) % every
   s += n * z
   if len(r) > 65536:
    O.write(r)
    r = bytearray()
 O.write(r)
def keep(z, bits):
 r = []
 i = 0
 for s, e in L:
  t = s
  while t < e:
   u = t + z
   if u > e:
    u = e
    k = 1
   else:
    k = bits[i >> 3] >> (i & 7) & 1
    i += 1
   if k:
    if r and r[-1][1] == t:
     r[-1] = (r[-1][0], u)
    else:
     r.append((t, u))
   t = u
 return r
def segments(z):
 b = bytearray()
 for s, e in L:
  while s < e:
   n = min(e - s, z - len(b), 1 << 20)
   b += part(s, n)
   s += n
   if len(b) == z:
    yield b
    b = bytearray()
 if b:
  yield b
def packed(b, how, preset, f):
 if how == 1:
  c = zlib.compressobj(preset, 8, 31)
  return c.compress(b) + c.flush()
 if how == 2:
  c = [{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": max(4096, min(len(b), 1 << 23))}]
  if f:
   c.insert(0, {"id": f})
  return lzma.compress(b, lzma.FORMAT_XZ, lzma.CHECK_NONE, None, c)
 raise ValueError(how)
def data(how, preset, f, z, threads):
 from concurrent.futures import ThreadPoolExecutor
 def put(b):
  O.write(len(b).to_bytes(4, "little"))
  O.write(b)
  O.flush()
 with ThreadPoolExecutor(threads) as pool:
  q = deque()
  for b in segments(z):
   q.append(pool.submit(packed, b, how, preset, f))
   if len(q) > threads:
    put(q.popleft().result())
  for b in q:
   put(b.result())
 put(b"")
try:
 O.write(("\n%s\nP" % sys.argv[1]).encode())
 O.flush()
 F = os.open(sys.argv[2], os.O_RDONLY)
 N = os.fstat(F).st_size
 L = [(0, N)]
 O.write(bytes([lzma is not None, min(os.cpu_count() or 1, 255)]) + N.to_bytes(8, "little"))
 while 1:
  O.flush()
  a = take(1)
  if a == b"W":
   L = [(0, N)]
  elif a == b"B":
   sums(*unpack("<IBB", take(6)))
  elif a == b"K":
   z, n = unpack("<II", take(8))
   L = keep(z, zlib.decompress(take(n)))
  elif a == b"H":
   h = hashlib.sha256()
   for s in range(0, N, 1 << 20):
    h.update(part(s, min(N - s, 1 << 20)))
   O.write(h.digest())
  elif a == b"D":
   data(*unpack("<BBBIB", take(8)))
  else:
   raise ValueError(a)
except Exception as e:
 sys.stderr.write("%s: %s\n" % (type(e).__name__, e))
 sys.stderr.flush()
 os._exit(43)
