"""Power cuts and bad disks: the real store on a disk in memory that forgets, tears, reorders, refuses and lies."""
