"""Models: the catalogue of backbones and pairs, heads, and grounding (making a vision arm)."""
