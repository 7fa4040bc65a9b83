"""Links between devices: what each can carry a second, one way."""

from dataclasses import dataclass
from typing import final

from snrise._errors import require

__all__ = ["LINKS", "Link"]


@final
@dataclass(frozen=True, kw_only=True)
class Link:
    """A link: its peak bandwidth in bytes a second, one way; of each device, or of the whole node (`per_node`)."""

    title: str
    bandwidth: float
    per_node: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        require(self.bandwidth > 0, "Link.bandwidth", self.bandwidth, "bytes a second, above 0")


#: Links by name. Vendors state NVLink in both directions together, networks one way in bits.
LINKS = {
    # 18 links of 25 GB/s each way: 900 GB/s in both directions.
    "nvlink4": Link(title="NVLink 4", bandwidth=450e9, source="NVIDIA H100 datasheet, SXM: 900 GB/s"),
    # 12 links of 25 GB/s each way: 600 GB/s in both directions.
    "nvlink3": Link(title="NVLink 3", bandwidth=300e9, source="NVIDIA A100 datasheet: 600 GB/s"),
    # 16 lanes of 16 GT/s, 128 of 130 bits being data.
    "pcie4": Link(title="PCIe 4.0 x16", bandwidth=16 * 16e9 * 128 / 130 / 8, source="PCI Express 4.0"),
    # A DGX H100 has eight single-port ConnectX-7, one for each GPU; a DGX A100 eight ConnectX-6.
    "ndr": Link(title="InfiniBand NDR", bandwidth=400e9 / 8, source="NVIDIA DGX H100 user guide: 8 x 400 Gb/s"),
    "hdr": Link(title="InfiniBand HDR", bandwidth=200e9 / 8, source="NVIDIA DGX A100 datasheet: 8 x 200 Gb/s"),
    # One port for all GPUs of a node: an assumption.
    "ethernet-100": Link(title="Ethernet 100 Gb/s", bandwidth=100e9 / 8, per_node=True, source="IEEE 802.3ba"),
}
