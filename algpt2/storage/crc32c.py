"""CRC32C of bytes that several processes have read: each its own part, and of the parts the whole."""

import functools

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, with the bits in the order in which the checksum has them
_ONE = 1 << 31
_BITS_OF_SIZE = 64


def joined(first: str, second: str, second_bytes: int) -> str:
    """Returns the CRC32C of two parts of bytes, one behind the other.

    A checksum is the remainder of a polynomial. Bytes behind the first part multiply it by x for each of their bits.

    Args:
      first: of the first part, as eight hexadecimal digits.
      second: of the part behind it.
      second_bytes: how many that one has.

    Example:

    >>> import google_crc32c
    >>> first, second, both = (f"{google_crc32c.value(text):08x}" for text in (b"to", b"gether", b"together"))
    >>> joined(first, second, 6) == both
    True
    """
    shift = _ONE
    for bit in range(_BITS_OF_SIZE):
        if second_bytes >> bit & 1:
            shift = _product(shift, _power(bit))
    return f"{_product(int(first, 16), shift) ^ int(second, 16):08x}"


@functools.cache
def _power(bit: int) -> int:
    """Returns x to the power of eight times 2^bit, which as many bytes multiply by."""
    if bit == 0:
        return _ONE >> 8
    half = _power(bit - 1)
    return _product(half, half)


def _product(first: int, second: int) -> int:
    """Returns the product of two remainders; the highest bit of a number is the constant term."""
    product = 0
    while first:
        if first & _ONE:
            product ^= second
        first = first << 1 & 0xFFFFFFFF
        second = second >> 1 ^ (_POLYNOMIAL if second & 1 else 0)
    return product
