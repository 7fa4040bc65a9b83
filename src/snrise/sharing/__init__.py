"""Sharing a run at the Hub: its weights with settings that name nothing of this machine, a model card, pictures."""

from snrise.sharing.card import About, card
from snrise.sharing.parcel import Parcel, pack, shared_settings

__all__ = ["About", "Parcel", "card", "pack", "shared_settings"]
