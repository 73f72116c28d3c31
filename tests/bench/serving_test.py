#!/usr/bin/env python3
"""The parts of bench/serve and bench/soak that are no server: who is asked for, how times are summed up, what goes over
the wire, and whether the judges of answers under change tell right from wrong."""

import socket
import sys
import threading
import time
import types
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "bench" / "serving")]

import history
import load
import numpy
import protobuf
import protocol
import report
import soak
import versions


class Server:
    """Answers each request with its own body, in pieces, or with an error; one thread a connection."""

    def __init__(self, status=200, piece=1 << 16):
        self.status, self.piece, self.requests = status, piece, []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = self.listening.getsockname()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, connection.makefile("rb") as stream:
            self.answer(connection, stream)

    def answer(self, connection, stream):
        while line := stream.readline():
            fields = {}
            while (field := stream.readline()) != b"\r\n":
                name, _, value = field.decode().partition(":")
                fields[name.lower()] = value.strip()
            body = stream.read(int(fields["content-length"]))
            self.requests.append(line.split()[1].decode())
            length = fields[protocol.HEADER_LENGTH.lower()]
            answer = (f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(body)}\r\n"
                      f"{protocol.HEADER_LENGTH}: {length}\r\n\r\n").encode() + body
            for begin in range(0, len(answer), self.piece):
                connection.sendall(answer[begin:begin + self.piece])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listening.close()


class Draws(unittest.TestCase):
    def test_follow_zipf(self):
        shares = load.zipf_shares(1000, 1.0)
        self.assertAlmostEqual(shares.sum(), 1)
        self.assertAlmostEqual(shares[0] / shares[9], 10)
        drawn = load.draw_tasks(1000, 1.0, 100_000, seed=1)
        counts = numpy.bincount(drawn, minlength=1000) / len(drawn)
        # Four standard deviations of a share drawn 100,000 times.
        self.assertTrue((abs(counts - shares) < 4 * numpy.sqrt(shares / len(drawn)) + 1e-4).all())

    def test_with_exponent_0_ask_for_all_alike(self):
        counts = numpy.bincount(load.draw_tasks(10, 0, 100_000, seed=1), minlength=10)
        self.assertLess(abs(counts / 10_000 - 1).max(), 0.05)

    def test_are_the_same_for_every_server_and_others_in_each_round(self):
        self.assertTrue((load.draw_tasks(50, 1, 100, 3) == load.draw_tasks(50, 1, 100, 3)).all())
        self.assertFalse((load.draw_tasks(50, 1, 100, 3) == load.draw_tasks(50, 1, 100, 4)).all())

    def test_name_no_task_that_is_not_there(self):
        drawn = load.draw_tasks(7, 1.0, 100_000, seed=2)
        self.assertEqual(sorted(set(drawn.tolist())), list(range(7)))


class Percentiles(unittest.TestCase):
    def test_are_values_by_nearest_rank(self):
        values = list(range(100, 0, -1))
        self.assertEqual([load.percentile(values, percent) for percent in (0, 1, 50, 99, 100)], [1, 1, 50, 99, 100])
        self.assertEqual(load.percentile([5.0], 99), 5)
        self.assertEqual(load.percentile([1, 2, 3], 50), 2)


class Tables(unittest.TestCase):
    def test_align_columns(self):
        self.assertEqual(report.aligned([("a", "bb"), ("ccc", "d")]), "a    bb\nccc  d")


class Bodies(unittest.TestCase):
    def test_carry_an_image_file(self):
        head, _, body = protocol.Payload(b"\xff\xd8jpeg", ("logits", "version"), {"alone": True}).request(
            "cars").partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"POST /v2/models/cars/infer HTTP/1.1\r\n"))
        length = int(head.decode().partition(f"{protocol.HEADER_LENGTH}: ")[2].split()[0])
        request, tensors = protocol.decode(body, length)
        self.assertEqual(tensors, {"image": b"\xff\xd8jpeg"})
        self.assertEqual([output["name"] for output in request["outputs"]], ["logits", "version"])
        self.assertEqual(request["parameters"], {"alone": True})
        self.assertIn(f"Content-Length: {len(body)}\r\n".encode(), head)

    def test_carry_pixels(self):
        pixels = numpy.arange(12, dtype=numpy.float32).reshape(3, 2, 2)
        payload = protocol.Payload(pixels)
        tensor = protocol.decode(payload.body, payload.length)[1]["image"]
        self.assertEqual(tensor.shape, (1, 3, 2, 2))
        self.assertTrue((tensor[0] == pixels).all())

    def test_carry_answers(self):
        logits = numpy.array([[1.5, -2]], numpy.float32)
        head, tensors = protocol.decode(*protocol.encode_answer("cars", {"logits": logits}))
        self.assertEqual(head["model_name"], "cars")
        self.assertTrue((tensors["logits"] == logits).all())

    def test_with_bytes_left_over_are_refused(self):
        payload = protocol.Payload(b"image")
        with self.assertRaises(ValueError):
            protocol.decode(payload.body + b"x", payload.length)


class Messages(unittest.TestCase):
    def test_have_the_bytes_of_protocol_buffers(self):
        # The examples of its documentation: field 2 is the text "testing"; 150 takes two bytes.
        self.assertEqual(protobuf.field(2, b"testing"), bytes.fromhex("120774657374696e67"))
        self.assertEqual(protobuf.varint(150), bytes.fromhex("9601"))

    def test_give_their_fields_back(self):
        long = bytes(300)
        self.assertEqual(list(protobuf.fields(protobuf.field(1, b"cars") + protobuf.field(700, long))),
                         [(1, b"cars"), (700, long)])

    def test_with_other_fields_are_refused(self):
        with self.assertRaises(ValueError):
            list(protobuf.fields(bytes.fromhex("089601")))  # field 1 is the number 150


class Clients(unittest.TestCase):
    def test_get_the_answers_to_their_own_requests(self):
        payloads = [protocol.Payload(bytes([number]) * 300_000) for number in range(20)]
        with Server(piece=10_000) as server:
            answers = load.ask_all(server.address, 4, [(i, p.request("cars")) for i, p in enumerate(payloads)])
        self.assertEqual(sorted(answer.key for answer in answers), list(range(20)))
        for answer in answers:
            self.assertEqual(answer.body, payloads[answer.key].body)
            self.assertLess(answer.sent, answer.done)

    def test_count_what_is_answered_in_the_window(self):
        payload = protocol.Payload(b"image")

        def forever():
            while True:
                yield 1, payload.request("cars")

        seen, meter = [], iter([{"x": 1.0}, {"x": 3.5}])
        with Server() as server:
            window = load.drive(server.address, 3, forever(), 0.2, 0.1, lambda: next(meter), seen.append)
            self.assertGreater(len(server.requests), len(window.latencies))
        self.assertEqual(len(seen), len(window.latencies))
        self.assertAlmostEqual(window.rate, len(seen) / 0.2)
        self.assertEqual(window.used, {"x": 2.5})
        self.assertGreater(window.latency(99), 0)

    def test_stop_at_an_error(self):
        with Server(status=503) as server, self.assertRaisesRegex(load.LoadError, "status 503"):
            load.ask_all(server.address, 1, [(1, protocol.Payload(b"image").request("cars"))])


class JudgeOfVersions(unittest.TestCase):
    LOG = "1 0 10.0 10.1\n2 1 11.0 11.1\n3 0 12.0 12.1\n"

    def setUp(self):
        self.commits = versions.Commits(self.LOG)
        self.known = {(0, 0): numpy.array([1.0, 2.0]), (1, 0): numpy.array([3.0, 1.0])}

    def judge(self, version, logits, sent, done):
        return versions.judge([(0, version, numpy.array(logits), sent, done)], self.commits, self.known)

    def test_lets_right_answers_through(self):
        verdict = self.judge(2, [3.0, 1.0], 11.5, 11.6)
        self.assertEqual(verdict, versions.Verdict(equal=1))

    def test_lets_either_version_through_while_one_is_committed(self):
        for version, logits in ((1, [1.0, 2.0]), (2, [3.0, 1.0])):
            self.assertEqual(self.judge(version, logits, 11.05, 11.3), versions.Verdict(equal=1))

    def test_finds_answers_of_another_version(self):
        self.assertGreater(self.judge(2, [1.0, 2.0], 11.5, 11.6).worst, 0.5)

    def test_finds_answers_of_no_version(self):
        self.assertEqual(self.judge(7, [3.0, 1.0], 11.5, 11.6).unknown, 1)
        self.assertEqual(self.judge(2, [3.0, 1.0, 0.0], 11.5, 11.6).unknown, 1)

    def test_finds_answers_that_are_too_old_or_too_young(self):
        self.assertEqual(self.judge(1, [1.0, 2.0], 11.5, 11.6).stale, 1)
        self.assertEqual(self.judge(3, [1.0, 2.0], 11.5, 11.6).early, 1)

    def test_knows_how_far_versions_are_apart(self):
        self.assertAlmostEqual(versions.nearest(self.known),
                               numpy.sqrt(2.5) / versions.root_mean_square([1, 2, 3, 1]))


class Histories(unittest.TestCase):
    def setUp(self):
        self.history = history.History()
        for variant in ("a", "b", history.REMOVED, "c"):
            self.history.begin(variant)
            self.history.end()
        # Changes from 10 to 11, 20 to 21, 30 to 31 and 40 to 41.
        for number, state in enumerate(self.history.states[1:], 1):
            state.began, state.ended = 10 * number, 10 * number + 1

    def versions(self, sent, done):
        return sorted(state.version for state in self.history.possible(sent, done))

    def test_number_versions_as_the_store_does(self):
        self.assertEqual([state.version for state in self.history.states], [0, 1, 2, 0, 3])

    def test_know_what_held_when(self):
        self.assertEqual(self.versions(5, 6), [0])
        self.assertEqual(self.versions(15, 16), [1])
        self.assertEqual(self.versions(32, 33), [0])
        self.assertEqual(self.versions(50, 60), [3])

    def test_let_either_state_be_while_one_becomes_the_other(self):
        self.assertEqual(self.versions(20.5, 20.6), [1, 2])
        self.assertEqual(self.versions(15, 35), [0, 1, 2])

    def test_tell_answers_that_cannot_be(self):
        self.assertEqual(history.may_be(self.history, 1, 15, 16).variant, "a")
        self.assertIsNone(history.may_be(self.history, 1, 22, 23), "too old")
        self.assertIsNone(history.may_be(self.history, 2, 15, 16), "too young")
        self.assertIsNone(history.may_be(self.history, 0, 22, 23), "it was there")
        self.assertIsNone(history.may_be(self.history, 7, 5, 60), "of no version")


class JudgeOfSoaks(unittest.TestCase):
    def setUp(self):
        self.soak = soak.Soak(types.SimpleNamespace(), Path("nowhere"), [b"image"])
        self.soak.known = {(0, 0): numpy.float32([1, 2]), (1, 0): numpy.float32([3, 4])}
        task = self.soak.histories["swapped-0"] = history.History()
        for variant in (0, 1):
            task.begin(variant)
            task.end()

    def judge(self, tasks, status, version=0, logits=()):
        now = time.monotonic()
        answer = {"version": [version], "num_classes": [len(logits)], "logits": numpy.float32([[*logits, -9]])}
        self.soak.judge("http", tasks, [0], status, answer, now, now)
        return self.soak.findings.counts

    def test_lets_right_answers_through(self):
        self.assertEqual(self.judge(["swapped-0"], 200, 2, (3, 4)), {"answers.right": 1})
        self.assertEqual(self.judge(["variant-0"], 200, 1, (1, 2)), {"answers.right": 2})

    def test_finds_wrong_ones(self):
        for number, wrong in enumerate(((["swapped-0"], 200, 2, (1, 2)), (["swapped-0"], 200, 1, (1, 2)),
                                        (["swapped-0"], 200, 3, (3, 4)), (["swapped-0"], 404), (["variant-0"], 404),
                                        (["swapped-0"], 503), (["variant-1"], 200, 1, (1, 2))), 1):
            self.assertEqual(self.judge(*wrong), {"faults": number}, wrong)

    def test_knows_removed_tasks(self):
        self.soak.histories["swapped-0"].begin(history.REMOVED)
        self.soak.histories["swapped-0"].end()
        self.assertEqual(self.judge(["swapped-0"], 404), {"answers.removed": 1})
        self.assertEqual(self.judge(["swapped-0"], 200, 2, (3, 4)), {"answers.removed": 1, "faults": 1})

    def test_tells_memory_that_grows_from_memory_that_settles(self):
        settles = [(second, 100 + min(second, 50)) for second in range(100)]
        grows = [(second, 100 + second) for second in range(100)]
        self.assertTrue(soak.memory_verdict(settles, 5)["flat"])
        verdict = soak.memory_verdict(grows, 5)
        self.assertFalse(verdict["flat"])
        self.assertAlmostEqual(verdict["slope_mib_per_hour"], 3600)


if __name__ == "__main__":
    unittest.main()
