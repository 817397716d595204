"""The control loop: from what is heard to a balanced PowerSnapshot and safe commands."""
