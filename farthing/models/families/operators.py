"""Invertible operators between parameters in memory and tensors on disk.

An operator takes one parameter (its name and shape) apart into the tensors that a checkpoint holds, each with a
`view`: a function from the parameter to the part of it that the tensor fills, sharing its memory. Reading copies a
tensor into the view, writing copies the view out: one table serves both directions, and there and back is the identity.
Views use indexing and reshaping only, so nothing here imports torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """One tensor on disk. `copy_of`: the name of another that holds the same numbers, one of the two being enough;
    `written`: whether a new checkpoint gets it."""

    name: str
    shape: Shape
    view: Callable[[Any], Any]
    copy_of: str = ""
    written: bool = True


Operator = Callable[[Piece], Iterator[Piece] | None]


def take_apart(name: str, shape: Shape, operators: tuple[Operator, ...]) -> list[Piece]:
    """The tensors on disk that make up one parameter; without a matching operator, itself."""
    pieces = [Piece(name, shape, lambda parameter: parameter)]
    for operator in operators:
        pieces = [after for piece in pieces for after in (operator(piece) or (piece,))]
    return pieces


def then(piece: Piece, name: str, shape: Shape, view: Callable[[Any], Any]) -> Piece:
    """`piece` with one more step behind its view."""
    before = piece.view
    return Piece(name, shape, lambda parameter: view(before(parameter)), piece.copy_of, piece.written)


def rename(pattern: str, template: str) -> Operator:
    """Names that match the regular expression `pattern` follow the template of `re.sub`."""
    compiled = re.compile(pattern)

    def apply(piece: Piece) -> Iterator[Piece] | None:
        if not compiled.search(piece.name):
            return None
        return iter([then(piece, compiled.sub(template, piece.name), piece.shape, lambda tensor: tensor)])

    return apply


def stack(pattern: str, template: str) -> Operator:
    """Axis 0 counts tensors of their own: a `{}` in the template becomes the index."""
    compiled = re.compile(pattern)

    def apply(piece: Piece) -> Iterator[Piece] | None:
        if not compiled.search(piece.name):
            return None
        return (
            then(piece, compiled.sub(template.format(index), piece.name), piece.shape[1:], _select(index))
            for index in range(piece.shape[0])
        )

    return apply


def split(pattern: str, templates: tuple[str, ...]) -> Operator:
    """Axis 0 is cut into equal parts, one tensor for each template."""
    compiled = re.compile(pattern)

    def apply(piece: Piece) -> Iterator[Piece] | None:
        if not compiled.search(piece.name):
            return None
        size = piece.shape[0] // len(templates)
        return (
            then(
                piece, compiled.sub(template, piece.name), (size, *piece.shape[1:]), _rows(index * size, size)
            )
            for index, template in enumerate(templates)
        )

    return apply


def add_axis(pattern: str) -> Operator:
    """The tensor on disk has a leading axis of length 1."""
    compiled = re.compile(pattern)

    def apply(piece: Piece) -> Iterator[Piece] | None:
        if not compiled.search(piece.name):
            return None
        return iter([then(piece, piece.name, (1, *piece.shape), lambda tensor: tensor[None])])

    return apply


def copies(name: str, *others: str, written: bool = True) -> Operator:
    """The same tensor may stand on disk under other names as well, or instead."""

    def apply(piece: Piece) -> Iterator[Piece] | None:
        if piece.name != name:
            return None
        more = (Piece(other, piece.shape, piece.view, copy_of=name, written=written) for other in others)
        return iter([piece, *more])

    return apply


# Experts are one stack in memory and tensors of their own on disk.
EXPERTS: tuple[Operator, ...] = (
    stack(r"\.experts\.(gate_up_proj|down_proj)$", r".experts.{}.\1.weight"),
    split(
        r"\.experts\.(\d+)\.gate_up_proj\.weight$",
        (r".experts.\1.gate_proj.weight", r".experts.\1.up_proj.weight"),
    ),
)


class Named(Protocol):
    """What `absent` asks of a piece."""

    @property
    def name(self) -> str: ...

    @property
    def copy_of(self) -> str: ...


def absent(pieces: Iterable[Named], present: Container[str]) -> list[str]:
    """Names of the tensors that are not `present`, neither themselves nor a copy of them."""
    found: dict[str, bool] = {}
    for piece in pieces:
        original = piece.copy_of or piece.name
        found[original] = found.get(original, False) or piece.name in present
    return [name for name, here in found.items() if not here]


def _select(index: int) -> Callable[[Any], Any]:
    return lambda tensor: tensor[index]


def _rows(start: int, size: int) -> Callable[[Any], Any]:
    return lambda tensor: tensor[start : start + size]
