"""The package `encodings` of the frozen plugin: the interpreter asks it for UTF-8 at its start, and nobody for more.

ASCII, Latin-1 and UTF-8 are built into the conversions between `str` and `bytes` and do not ask here; the streams of
`sys` do. The standard library's package first makes a table of the aliases of a hundred encodings, which takes 0.6 ms.
"""

import _codecs
from codecs import BufferedIncrementalDecoder, CodecInfo, IncrementalEncoder, utf_8_decode, utf_8_encode


class Encoder(IncrementalEncoder):
    """As in encodings/utf_8.py."""

    def encode(self, text, final=False):
        """The bytes of a text."""
        return utf_8_encode(text, self.errors)[0]


class Decoder(BufferedIncrementalDecoder):
    """As in encodings/utf_8.py."""

    _buffer_decode = utf_8_decode


def search(name):
    """The codec of that (normalized) name; None for all but UTF-8."""
    if name not in ("utf-8", "utf_8", "utf8"):
        return None
    return CodecInfo(utf_8_encode, utf_8_decode, incrementalencoder=Encoder, incrementaldecoder=Decoder, name="utf-8")


_codecs.register(search)
