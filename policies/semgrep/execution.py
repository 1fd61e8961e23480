# Fixture of the rules beside it: bad lines follow "ruleid", good ones "ok". Never imported.
import ast
import asyncio
import builtins
import os
import re
import subprocess
import subprocess as sp
from os import system
from subprocess import run

import torch

# ruleid: evaluated-code
eval(text)
# ruleid: evaluated-code
exec(text)
# ruleid: evaluated-code
program = compile(text, "<policy>", "exec")
# ruleid: evaluated-code
builtins.eval(text)
# ok: evaluated-code
network.eval()
# ok: evaluated-code
re.compile(text)
# ok: evaluated-code
torch.compile(network)
# ok: evaluated-code
ast.literal_eval(text)

# ruleid: shell-command
subprocess.run(command, shell=True)
# ruleid: shell-command
sp.Popen(command, shell=wanted)
# ruleid: shell-command
run(command, shell=True)
# ruleid: shell-command
os.system(command)
# ruleid: shell-command
system(command)
# ruleid: shell-command
subprocess.getoutput(command)
# ruleid: shell-command
asyncio.create_subprocess_shell(command)
# ok: shell-command
subprocess.run(["ls", "-l"])
# ok: shell-command
subprocess.run(["ls", "-l"], shell=False)
