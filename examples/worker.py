#!/usr/bin/env python3
"""A Teamster worker in Python's standard library, written from docs/PROTOCOL.md alone."""
# worker.py [PORT]: one slot, on 127.0.0.1, without a key or bounds on strangers and slow frames.
import os, select, socket, socketserver, struct, sys, threading, time
from concurrent.futures import ThreadPoolExecutor

HELLO, WELCOME, REFUSE, JOB, TASK, OUTCOME, PING, PONG, _, CANCEL = range(1, 11)
DONE, FAILED, RETURNED, TIMED_OUT = range(4)
OPENING, PAYLOAD_MAX, CREDIT_TASKS, CREDIT_BYTES = b"TM\r\n\0\3", 1 << 20, 4096, 16 << 20
SLOT, INCARNATION = ThreadPoolExecutor(1), os.urandom(8)  # one slot, for however many heads

def square(setup, data, stop):
    (work_ms,), (n,) = struct.unpack(">I", setup), struct.unpack(">Q", data)
    stop.wait(work_ms / 1000)
    return struct.pack(">Q", n * n)  # fails, and the task with it, if that does not fit
KERNELS = {"square": (square, 4), "echo": (lambda setup, data, stop: data, 0)}  # length of set-up

class Session(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    def handle(self):
        self.lock, self.over, self.heard = threading.RLock(), threading.Event(), time.monotonic()
        self.kernel, self.payload_max, self.body_max = None, 0, 256  # until Job and Hello
        self.held, self.held_bytes = {}, 0  # future, stop and length by attempt, until its Outcome
        threading.Thread(target=self.watch, daemon=True).start()
        try: self.serve()
        except (EOFError, OSError): pass
        except LookupError as error: self.send(REFUSE, f"\1{error}".encode())
        except Exception as error: self.send(REFUSE, f"\3{error}".encode())
        self.over.set()
        for future, stop, _ in list(self.held.values()): future.cancel(); stop.set()
        self.request.shutdown(socket.SHUT_WR)  # and read on: a reset would destroy the Refuse
        while select.select([self.request], [], [], 1)[0] and self.request.recv(1 << 16): pass
    def watch(self):
        while not self.over.wait(1):
            silent_s = time.monotonic() - self.heard
            if silent_s >= (60 if self.payload_max else 5): self.request.shutdown(socket.SHUT_RD)
            elif silent_s >= 3 and self.payload_max: self.send(PING)
    def send(self, kind, body=b""):
        with self.lock: self.wfile.write(struct.pack(">IB3x", len(body), kind) + body)
    def read(self, count):
        data = b""  # grows as bytes arrive
        while len(data) < count:
            if not (chunk := self.rfile.read1(count - len(data))): raise EOFError
            data, self.heard = data + chunk, time.monotonic()
        return data
    def serve(self):
        self.wfile.write(OPENING + b"w\0")
        if self.read(8) != OPENING + b"h\0": raise EOFError  # another version, or it has a key
        while True:
            size, kind, zeros = struct.unpack(">IB3s", self.read(8))
            if size > self.body_max or any(zeros): raise ValueError(f"frame of {size} bytes")
            body = self.read(size)
            if not self.payload_max: self.greet(kind, body)
            elif kind == PING: self.send(PONG)
            elif kind == JOB and not self.kernel: self.open(*struct.unpack_from(">IB", body), body)
            elif kind == TASK and self.kernel: self.take(struct.unpack_from(">QI", body), body[12:])
            elif kind == CANCEL and self.kernel: self.cancel(*struct.unpack(">QIB", body))
            elif kind != PONG: raise ValueError(f"a frame of kind {kind} is out of place")
    def greet(self, kind, body):
        if kind != HELLO: raise ValueError("no Hello")
        self.body_max = PAYLOAD_MAX + 32
        limits = struct.pack(">HIII", 1, CREDIT_TASKS, CREDIT_BYTES, PAYLOAD_MAX)
        self.send(WELCOME, limits + INCARNATION + b"python")
        self.payload_max = min(PAYLOAD_MAX, *struct.unpack_from(">I", body))
    def open(self, timeout_ms, name_len, body):
        self.timeout_s, name = timeout_ms / 1000, body[5 : 5 + name_len].decode()
        self.setup, (kernel, setup_len) = body[5 + name_len :], KERNELS.get(name, (None, 0))
        if len(self.setup) == setup_len: self.kernel = kernel
        if not self.kernel: raise LookupError(f"no {name} with that set-up, only {[*KERNELS]}")
    def take(self, attempt, data):
        with self.lock:
            self.held_bytes += len(data)
            if self.held and (len(self.held) == CREDIT_TASKS or self.held_bytes > CREDIT_BYTES):
                raise ValueError("more than the credit")
            future = SLOT.submit(self.compute, attempt, data, stop := threading.Event())
            self.held[attempt] = future, stop, len(data)
    def cancel(self, task, number, running):
        future, stop, _ = self.held.get((task, number), (None, None, 0))
        if future and future.cancel(): self.answer((task, number), RETURNED, b"cancelled")
        elif future and running: stop.cancelled = True; stop.set()
    def compute(self, attempt, data, stop):
        start, timer = time.monotonic(), threading.Timer(self.timeout_s, stop.set)
        if self.timeout_s: timer.start()
        try: status, output = DONE, self.kernel(self.setup, data, stop)
        except Exception as error: status, output = FAILED, str(error)[:1000].encode()
        timer.cancel()
        run_s = time.monotonic() - start
        if hasattr(stop, "cancelled"): status, output = RETURNED, b""
        elif 0 < self.timeout_s <= run_s: status, output = TIMED_OUT, b"too long"
        self.answer(attempt, status, output, run_s)
    def answer(self, attempt, status, output, run_s=0):
        if len(output) > self.payload_max: status, output = FAILED, b"the output is too long"
        with self.lock:
            self.held_bytes -= self.held.pop(attempt)[2]
            self.send(OUTCOME, struct.pack(">QIBI", *attempt, status, int(run_s * 1e6)) + output)

server = socketserver.ThreadingTCPServer(("127.0.0.1", int(*sys.argv[1:] or [5000])), Session)
server.daemon_threads = True
print("Listening on %s:%d" % server.server_address, flush=True)
server.serve_forever()
