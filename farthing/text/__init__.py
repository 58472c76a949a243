"""The meaning of strings: tokens, conversations, regions. Imports nothing of torch."""

from farthing.text.chat import Message, Rendered, render
from farthing.text.regions import RegionParser, Regions, split
from farthing.text.tokenizer import Tokenizer

__all__ = ["Message", "RegionParser", "Regions", "Rendered", "Tokenizer", "render", "split"]
