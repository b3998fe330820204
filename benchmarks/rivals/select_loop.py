"""The least that can be done in Python: wait, poll, print. Nothing is served.

python select_loop.py URL CHANNEL
"""

import json
import select
import sys
import time

import psycopg2

connection = psycopg2.connect(sys.argv[1])
connection.autocommit = True
connection.cursor().execute(f"LISTEN {sys.argv[2]}")
print("listening", flush=True)
while True:
    select.select([connection], [], [])
    connection.poll()
    while connection.notifies:
        payload = connection.notifies.pop(0).payload
        print(json.loads(payload)["n"], time.monotonic(), flush=True)
