"""A manager and its clients: the rows of the table "managers"."""

from common import each, p50

KEYS = 1_000
MANY = 1_000


def get(managed, i):
    assert managed.get(i % KEYS) == i % KEYS + 1


def put(managed, i):
    managed[i % KEYS] = i


def put_and_get(managed, i):
    managed.put(i)
    managed.get()


def client(call, managed, count, here, gate):
    """Calls once for the way to the server, waits for the others, and calls."""
    call(managed, 0)
    here.put(None)
    gate.wait()
    for i in range(count):
        call(managed, i)
    here.put(None)


def at_once(context, call, managed, clients, count):
    here, gate = context.SimpleQueue(), context.Event()
    of_each = -(-count // clients)
    arguments = (call, managed, of_each, here, gate)
    processes = [context.Process(target=client, args=arguments) for _ in range(clients)]
    for process in processes:
        process.start()

    def wait_for_all():
        for _ in range(clients):
            here.get()

    def work():
        gate.set()
        wait_for_all()

    wait_for_all()
    nanos = each(of_each * clients, work)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    return nanos


def acquire_and_release(lock, count):
    for _ in range(count):
        lock.acquire()
        lock.release()


def start_and_stop(context):
    with context.Manager():
        pass


class Managers:
    """Keeps a manager between rounds."""

    def __init__(self, context):
        self.context = context
        self.manager = None

    def run(self, word, count, argument):
        """None for what isn't about managers."""
        if word == "manager_start_and_stop":
            return p50(count, lambda: start_and_stop(self.context))
        if not word.startswith("managed_"):
            return None
        if self.manager is None:
            self.manager = self.context.Manager()
        manager, clients = self.manager, int(argument)
        if word == "managed_get":
            values = manager.dict({key: key + 1 for key in range(KEYS)})
            return at_once(self.context, get, values, clients, count)
        if word == "managed_set":
            values = manager.dict()
            nanos = at_once(self.context, put, values, clients, count)
            assert len(values) == min(-(-count // clients), KEYS)
            return nanos
        if word == "managed_put_and_get":
            queue = manager.Queue()
            nanos = at_once(self.context, put_and_get, queue, clients, count)
            assert queue.empty()
            return nanos
        if word == "managed_lock":
            lock = manager.Lock()
            return each(count, lambda: acquire_and_release(lock, count))
        assert word == "managed_set_many"
        values, many = manager.dict(), {i: i for i in range(MANY)}
        nanos = p50(count, lambda: values.update(many))
        assert len(values) == MANY
        return nanos / MANY

    def shutdown(self):
        if self.manager is not None:
            self.manager.shutdown()
