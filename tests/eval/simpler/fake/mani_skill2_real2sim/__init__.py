"""Stands where ManiSkill2_real2sim would, without SAPIEN: the same calls, pictures and dictionaries."""
