"""Memory that a thread keeps: fresh memory costs a page fault for every 4 KiB."""

from __future__ import annotations

import torch


class Room:
    """Memory of one thread by name, which grows to what was asked and is written many times."""

    def __init__(self) -> None:
        self._held: dict[str, torch.Tensor] = {}

    def __call__(
        self, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:
        """Return a tensor of unknown content; the one given before under this name is lost."""
        count = 1
        for size in shape:
            count *= size
        held = self._held.get(name)
        if held is None or held.numel() < count or held.dtype != dtype or held.device != device:
            held = self._held[name] = torch.empty(count, dtype=dtype, device=device)
        return held[:count].view(shape)
