"""Ed25519 of RFC 8032 in pure Python: slow, not constant in time, for test vectors and independent checks alone.

  public(seed)                       the 32-byte public key of a 32-byte seed
  sign(seed, message)                the 64-byte signature
  verify(public, message, signature) True or False; a point or scalar in another than its canonical encoding is False
"""
import functools
import hashlib

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_MINUS_1 = pow(2, (P - 1) // 4, P)
NEUTRAL = (0, 1, 1, 0)


def scalar(*parts): return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")


def add(p, q):
    """Extended coordinates (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z; also doubles."""
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(number, point):
    result = NEUTRAL
    while number:
        if number & 1: result = add(result, point)
        point, number = add(point, point), number >> 1
    return result


def compress(point):
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def decompress(data):
    """The point, or None."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    if y >= P: return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P: x = x * SQRT_MINUS_1 % P
    if (x * x - square) % P or (x == 0 and sign): return None
    if x & 1 != sign: x = P - x
    return x, y, 1, x * y % P


BASE = decompress((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def expand(seed):
    digest = hashlib.sha512(seed).digest()
    return int.from_bytes(digest[:32], "little") & (1 << 254) - 8 | 1 << 254, digest[32:]


@functools.lru_cache(maxsize=None)
def public(seed): return compress(multiply(expand(seed)[0], BASE))


@functools.lru_cache(maxsize=None)
def sign(seed, message):
    secret, prefix = expand(seed)
    nonce = scalar(prefix, message) % ORDER
    commitment = compress(multiply(nonce, BASE))
    challenge = scalar(commitment, public(seed), message)
    return commitment + ((nonce + challenge * secret) % ORDER).to_bytes(32, "little")


@functools.lru_cache(maxsize=None)
def verify(key, message, signature):
    if len(key) != 32 or len(signature) != 64: return False
    point, s = decompress(key), int.from_bytes(signature[32:], "little")
    if point is None or s >= ORDER: return False
    minus = (P - point[0], point[1], point[2], P - point[3])
    challenge = scalar(signature[:32], key, message) % ORDER
    return compress(add(multiply(s, BASE), multiply(challenge, minus))) == signature[:32]
