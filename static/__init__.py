"""The browser client and the demo page, as the wheel ships them."""
