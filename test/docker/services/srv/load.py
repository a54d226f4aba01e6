"""Ordinary customers: what they ask for is another thing each time."""
import http.client
import random
import sys
import time

ROUND = ["/app/cache/k%d", "/app/items", "/app/add/%d", "/app/report/sales", "/app/report/stock", "/app/local/%d", "/app/big/%d000", "/app/", "/java/", "/java/?what=zip&n=%d",
         "/java/?what=run", "/java/?what=ask", "/java/second.jsp?n=%d", "/node/write/n%d", "/node/run", "/node/work/%d", "/node/zip/%d", "/node/", "/missing-%d", "/health"]
failed = asked = 0
left = []
while True:
    if not left:  # each once in a round, in another order each time
        left = random.sample(ROUND, len(ROUND))
        print("round", flush=True)
    path = left.pop()
    if "%d" in path:
        path = path % random.randrange(1, 400)
    try:
        c = http.client.HTTPConnection("web", 80, timeout=30)
        if random.random() < 0.1:
            c.request("POST", "/app/", random.randbytes(random.randrange(100, 60000)))
        else:
            c.request("GET", path)
        answer = c.getresponse()
        answer.read()
        ok = answer.status == (404 if "missing" in path else 200)
        c.close()
    except OSError as e:
        ok, answer = False, e
    asked += 1
    if not ok:
        failed += 1
        print("failed", path, getattr(answer, "status", answer), flush=True)
    print("asked", asked, "failed", failed, flush=True)
    time.sleep(random.random() * float(sys.argv[1] if len(sys.argv) > 1 else 0.2))
