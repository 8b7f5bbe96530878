"""Systems: whatever turns captions into audio at a number of steps."""
