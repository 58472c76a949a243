"""The byte-level alphabet of GPT-2: how 256 bytes are written as 256 visible characters."""

from __future__ import annotations


def _alphabet() -> dict[str, int]:
    # Printable bytes stand for themselves, the others for the code points from 256 up, in order.
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    hidden = [byte for byte in range(256) if chr(byte) not in alphabet]
    alphabet.update({chr(256 + index): byte for index, byte in enumerate(hidden)})
    return alphabet


BYTE_OF = _alphabet()
CHARACTER_OF = {byte: character for character, byte in BYTE_OF.items()}


def token_bytes(token: str) -> bytes:
    """The bytes a token stands for; one with a character outside the alphabet (`<｜User｜>`) stands for itself."""
    try:
        return bytes([BYTE_OF[character] for character in token])
    except KeyError:
        return token.encode("utf-8")


def token_text(data: bytes) -> str:
    """The token that spells `data` in the alphabet."""
    return "".join(CHARACTER_OF[byte] for byte in data)
