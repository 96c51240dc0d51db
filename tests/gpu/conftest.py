# SPDX-License-Identifier: Apache-2.0
"""What the tests on a real device share: `make check-gpu` runs them."""

from collections.abc import Callable

import pytest

DeviceBytes = Callable[..., object]


@pytest.fixture(scope="session", autouse=True)
def device() -> None:
    """Fail, rather than skip, where there is no device: that is what was asked for."""
    from atlas12288._gpu.device import current

    with current(0) as found:
        print(f"\n{found.core.name}, compute capability {found.core.compute_capability}")


@pytest.fixture(scope="session")
def on_device() -> DeviceBytes:
    """Return a function that copies bytes to the device, as a tensor `shift` bytes into memory."""
    torch = pytest.importorskip("torch")

    def copied(data: bytes, shift: int = 0) -> object:
        memory = torch.empty(len(data) + shift, dtype=torch.uint8, device="cuda")
        part = memory[shift:]
        if data:
            part.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        return part

    return copied
