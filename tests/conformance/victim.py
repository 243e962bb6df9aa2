"""A process with two children, which end with it: `victim.py NAME`. Ends itself in 10 minutes."""

import os
import signal
import sys
import time

signal.alarm(600)
reading, writing = os.pipe()
begun, beginning = os.pipe()
for _ in range(2):
    if os.fork() == 0:
        # Another command line than ours, and an end of input when we end.
        os.dup2(reading, 0)
        os.execv("/bin/cat", ["cat"])
os.close(beginning)
os.read(begun, 1)  # The end of file comes when both have become `cat`.
if len(sys.argv) > 2:
    open(sys.argv[2], "w").close()
while True:
    time.sleep(600)
