"""What a test traces: a program that makes system calls when it is told to, and says what came of them."""
import ctypes, errno, os, select, signal, struct, subprocess, sys, threading, time

def result(call):
    """How a call went, in a word."""
    try:
        done = call()
        if isinstance(done, int) and call.__name__ == "opened":
            os.close(done)
        return "ok"
    except OSError as error:
        return errno.errorcode[error.errno]

def opening(path, **more):
    def opened():
        return os.open(path, os.O_RDONLY, **more)
    return opened

def tries(count, call):
    return " ".join(result(call) for _ in range(count))

def in_threads(count, run):
    """The sorted results of so many threads."""
    results = []
    threads = [threading.Thread(target=lambda: results.append(run())) for _ in range(count)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return "|".join(sorted(results))

def in_child(run):
    """The result of a child process, by fork."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, run().encode())
        os._exit(0)
    os.close(writer)
    text = os.read(reader, 65536).decode()
    os.close(reader)
    os.waitpid(child, 0)
    return text

def took(call):
    """For how many milliseconds a call lasts."""
    begun = time.monotonic()
    call()
    return (time.monotonic() - begun) * 1000

def say(text):
    os.write(1, f"{text}\n".encode())

def hear():
    """Waits for a line."""
    while True:
        byte = os.read(0, 1)
        if not byte: os._exit(0)
        if byte == b"\n": return

def turn():
    """Waits until it is to go on."""
    say("ready")
    hear()

def filter_calls():
    """Has all calls with a number that is none fail with ENOSYS, by seccomp."""
    # BPF: load the number; is it above 100000?; then ENOSYS; else allow.
    code = [(0x20, 0, 0, 0), (0x35, 0, 1, 100000), (0x06, 0, 0, 0x00050026), (0x06, 0, 0, 0x7FFF0000)]
    program = b"".join(struct.pack("HBBI", *line) for line in code)
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxP", len(code), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, header, 0, 0) == 0

FILE = "/etc/hosts"
