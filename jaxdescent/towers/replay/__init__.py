"""The general way to differentiate an update: run it again on its own inputs."""
