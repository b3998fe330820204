"""SQL files, as the wheel ships them."""
