"""The cheap way to differentiate an update that moves each coordinate on its own."""
