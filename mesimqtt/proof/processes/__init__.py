"""Real servers in processes of their own, treated as no operator would: killed, stopped, starved, cut off."""
