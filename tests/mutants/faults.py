"""Deliberate faults: each breaks one promise in one place, and names the tests that must notice.

An edit is a file below `packages/`, a text that occurs in it exactly once, and what stands there instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tests.adapter.rollout.sabotages import IN_THE_FUNCTIONS

ROOT = Path(__file__).resolve().parent.parent.parent

_ARTIFACTS = "cfgsync_artifacts/src/cfgsync_artifacts"
_CORE = "cfgsync_core/src/cfgsync_core"
_ADAPTER = "cfgsync_adapter/src/cfgsync_adapter"
_SQLITE = "cfgsync_runtime/src/cfgsync_runtime/backends/sqlite"
_NATS = "cfgsync_runtime/src/cfgsync_runtime/backends/nats"
_INTEGRATIONS = "cfgsync_documents/src/cfgsync_documents/integrations"
_ACCESS = "cfgsync_runtime/src/cfgsync_runtime/access"
_PAGE = "cfgsync_runtime/src/cfgsync_runtime/page"
_TOKENS = "cfgsync_runtime/src/cfgsync_runtime/access/tokens"
_TRIALS = "cfgsync_runtime/src/cfgsync_runtime/node/trials"
_TURNS = "tests/end_to_end/test_takes_turns.py::test_"
_TESTING = "cfgsync_runtime/src/cfgsync_runtime/testing"


class Edit(NamedTuple):
    """`old` becomes `new` in `packages/<file>`."""

    file: str
    old: str
    new: str

    def applied(self, root: Path = ROOT) -> str:
        """The text with the fault in it. Raises `DoesNotApply`, which says where it was looked for."""
        path = root / "packages" / self.file
        text = path.read_text() if path.is_file() else ""
        if text.count(self.old) != 1:
            raise DoesNotApply(
                f"{path}: {text.count(self.old)} times, expected once:\n{self.old}\n"
                "the code has moved on: mend this edit in tests/mutants/faults.py"
            )
        return text.replace(self.old, self.new)


class DoesNotApply(Exception):
    """The text that an edit replaces is not there, or more than once."""


class Fault(NamedTuple):
    """A fault and the tests that must turn red with it. `needs` is a program without which they would be skipped."""

    name: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    needs: str | None = None


FAULTS: tuple[Fault, ...] = (
    Fault(
        "frozen: what the generation was made from is forgotten at a restart",
        (
            Edit(
                f"{_ADAPTER}/runs/held_back.py",
                "        kept = None if stored is None else msgspec.msgpack.decode(stored, type=MadeFrom)\n",
                "        kept: MadeFrom | None = None\n",
            ),
        ),
        (
            "tests/adapter/runs/test_held_back.py::test_it_is_put_back_also_after_a_restart_and_in_a_new_epoch",
        ),
    ),
    Fault(
        "frozen: what a rebuild would take in is not told as a fact, so --wait-applied waits",
        (
            Edit(
                f"{_ADAPTER}/answers/explain.py",
                "is_held_back=bool(held_back)",
                "is_held_back=False",
            ),
        ),
        ("tests/adapter/runs/test_held_back.py::test_the_fleet_names_what_is_held_back",),
    ),
    Fault(
        "acknowledge before commit",
        (
            Edit(
                f"{_SQLITE}/writing.py",
                "        return outcomes, {name: group.bucket for name, group in moved.items()}\n",
                "        for member, outcome in zip(members, outcomes, strict=True):\n"
                "            if isinstance(outcome, Version):\n"
                "                def tell(answer=member.answer, outcome=outcome):\n"
                "                    answer.done() or answer.set_result(outcome)\n"
                "                member.answer.get_loop().call_soon_threadsafe(tell)\n"
                "        return outcomes, {name: group.bucket for name, group in moved.items()}\n",
            ),
        ),
        (
            "tests/runtime/backends/test_sqlite.py::test_an_io_error_at_commit_ends_the_store_and_calls_on_fatal_once",
        ),
    ),
    Fault(
        "acknowledge before commit, traced",
        (
            Edit(
                f"{_CORE}/follow/mirror.py",
                "            version = await self._store.commit(self._bucket, encoded, expected)\n",
                "            self._later = getattr(self, '_later', set())\n"
                "            self._later.add(asyncio.ensure_future(\n"
                "                self._store.commit(self._bucket, encoded, expected)\n"
                "            ))\n"
                "            version = Version(self.version.epoch or next(iter(writes)), self.version.revision + 1)\n",
            ),
        ),
        ("tests/chaos/test_durability.py",),
        "strace",
    ),
    Fault(
        "synchronous=OFF",
        (Edit(f"{_SQLITE}/disk/file.py", '"pragma synchronous=full"', '"pragma synchronous=off"'),),
        (
            "tests/runtime/backends/test_sqlite.py::test_commits_are_synced_with_full_and_only_the_writer_checkpoints",
        ),
    ),
    Fault(
        "synchronous=OFF, traced",
        (Edit(f"{_SQLITE}/disk/file.py", '"pragma synchronous=full"', '"pragma synchronous=off"'),),
        ("tests/chaos/test_durability.py",),
        "strace",
    ),
    Fault(
        "no directory fsync after the swap",
        (
            Edit(
                f"{_ARTIFACTS}/swapped_directory.py",
                "                os.fsync(root)  # also when unchanged",
                "                pass  # also when unchanged",
            ),
        ),
        (
            "tests/artifacts/test_swapped_directory.py"
            "::test_what_is_published_is_durable_before_anything_points_to_it",
        ),
    ),
    Fault(
        "no directory fsync after the renames",
        (
            Edit(
                f"{_ARTIFACTS}/replaced_files.py",
                '_parent(roots[at[0]], (*at[1], "")) as parent:\n                os.fsync(parent)\n',
                '_parent(roots[at[0]], (*at[1], "")) as parent:\n                pass\n',
            ),
        ),
        (
            "tests/artifacts/test_replacing_files.py"
            "::test_each_file_is_durable_before_its_rename_and_each_directory_after_the_last",
        ),
    ),
    Fault(
        "no directory fsync under a new store",
        (Edit(f"{_SQLITE}/disk/file.py", "            os.fsync(descriptor)\n", "            pass\n"),),
        (
            "tests/runtime/backends/test_sqlite.py::test_a_new_store_is_durable_under_its_name_before_it_is_opened",
        ),
    ),
    Fault(
        "digest not checked, on the node",
        (
            Edit(
                f"{_CORE}/node/answers.py",
                "payload = decode_payload(answer.body, digest)",
                "payload = decode_payload(answer.body, None)",
            ),
        ),
        (
            "tests/core/node/test_exchange.py::test_an_answer_that_does_not_hold_together_is_final_and_not_written",
        ),
    ),
    Fault(
        "digest not checked, in the store",
        (
            Edit(
                f"{_SQLITE}/reading.py",
                "in found:\n                if value is None or sha256(value).digest() != digest:",
                "in found:\n                if value is None:",
            ),
            Edit(
                f"{_SQLITE}/reading.py",
                "= row\n        if value is None or sha256(value).digest() != digest:",
                "= row\n        if value is None:",
            ),
        ),
        ("tests/runtime/backends/test_sqlite.py::test_damage_is_named_and_never_served",),
    ),
    Fault(
        "`<=` for `<` in the regression check",
        (
            Edit(
                f"{_CORE}/node/history.py",
                "got.revision >= seen.revision):",
                "got.revision > seen.revision):",
            ),
        ),
        ("tests/core/node/test_exchange.py::test_a_node_never_goes_back",),
    ),
    Fault(
        "per-file rename instead of the symlink swap",
        (
            Edit(
                f"{_ARTIFACTS}/swapped_directory.py",
                "                        _publish(root, home, sets, tree, group, check)\n"
                "                    except (OSError, DiskError) as error:\n",
                "                        if current_number(root, target) is None:\n"
                "                            _publish(root, home, sets, tree, group, check)\n"
                "                        else:\n"
                "                            from .replaced_files import replace_files\n"
                "                            at = os.path.join(target, CURRENT)\n"
                "                            replace_files([Placed(at, f.parts, f.content, f.mode) for f in files])\n"
                "                    except (OSError, DiskError) as error:\n",
            ),
        ),
        (
            "tests/artifacts/test_swapped_directory.py"
            "::test_whoever_reads_after_a_kill_at_any_step_sees_files_of_one_set",
        ),
    ),
    Fault(
        "no handler cancellation",
        (
            Edit(
                f"{_CORE}/server/connection/connections.py",
                "handler_cancellation=True",
                "handler_cancellation=False",
            ),
        ),
        (
            "tests/core/server/connection/test_connections.py::test_an_abandoned_question_leaves_nothing_behind",
        ),
    ),
    Fault(
        "no body deadline",
        (
            Edit(
                f"{_CORE}/server/connection/body.py", "asyncio.timeout(BODY_SECONDS)", "asyncio.timeout(None)"
            ),
        ),
        (
            "tests/core/server/connection/test_connections.py::test_a_body_that_does_not_come_is_ended_after_its_time",
        ),
    ),
    Fault(
        "generation not persisted",
        (
            Edit(
                f"{_ADAPTER}/generations/publisher.py",
                "await self.commit(writes, expected=self._expected(CURRENT, CLAIM, STABLE))",
                "await self._store.version(BUCKET)",
            ),
        ),
        (
            "tests/adapter/generations/test_generation.py"
            "::test_a_restart_serves_the_same_bytes_from_a_materializer_that_draws_random_keys",
        ),
    ),
    Fault(
        "a timer for each held question",
        (
            Edit(
                f"{_ADAPTER}/answers/held_requests.py",
                "        if waiter.wait >= 1.0:\n",
                "        if False:\n",
            ),
        ),
        (
            "tests/adapter/answers/test_held_requests.py"
            "::test_waits_that_began_together_end_at_few_moments_none_before_its_last_twentieth",
        ),
    ),
    Fault(
        "a watching node gives up its acknowledgement after a second",
        (
            Edit(
                f"{_CORE}/node/acknowledger.py",
                "acknowledge_request(acknowledgement, self._secret, PATIENCE)",
                "acknowledge_request(acknowledgement, self._secret)",
            ),
        ),
        (
            "tests/core/node/watch/test_node_watch.py"
            "::test_a_slow_server_is_given_time_for_an_acknowledgement_and_hears_it_once",
        ),
    ),
    Fault(
        "a pinned server is looked at and not verified",
        (
            Edit(
                f"{_CORE}/node/trust/server.py",
                '        context = ssl.create_default_context(cadata=b"".join(known))\n',
                "        return looking()\n",
            ),
        ),
        (
            "tests/runtime/node/network/test_verified_server.py"
            "::test_a_ca_that_a_stranger_shows_along_with_its_own_certificate_proves_nothing",
        ),
    ),
    Fault(
        "a certificate file that cannot be used ends the one before",
        (
            Edit(
                "cfgsync_runtime/src/cfgsync_runtime/access/tls.py",
                "                self.is_refused = True\n",
                "                self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n                self.is_refused = True\n",
            ),
        ),
        (
            "tests/runtime/access/test_tls.py::test_a_replaced_pair_is_taken_and_a_mismatching_or_broken_one_is_not",
        ),
    ),
    Fault(
        "a connection counts when its handshake is done",
        (
            Edit(
                f"{_CORE}/server/connection/listening.py",
                "            self._server.accepted(handler, task.cancel)\n",
                "            task.add_done_callback(lambda done, one=handler: self._server.accepted(one, done.cancel))\n",
            ),
        ),
        (
            "tests/core/server/connection/test_tls.py"
            "::test_silent_peers_keep_no_speaking_one_out_and_are_within_the_limit",
        ),
    ),
    Fault(
        "a run per commit",
        (
            Edit(
                f"{_ADAPTER}/runs/runner.py",
                "return self._last_start + spacing - now",
                "return 0.0 * spacing",
            ),
        ),
        (
            "tests/adapter/generations/test_generation.py::test_runs_are_coalesced_while_registrations_pour_in",
        ),
    ),
    Fault(
        "a re-snapshot per commit",
        (
            Edit(
                f"{_CORE}/follow/mirror.py",
                "            self._apply(version, writes)\n        elif",
                "            await self._read_whole()\n        elif",
            ),
        ),
        (
            "tests/adapter/generations/test_generation.py::test_registrations_are_applied_one_by_one_and_never_read_again",
        ),
    ),
    Fault(
        "a gap is replayed over",
        (
            Edit(
                f"{_CORE}/follow/acceptance.py",
                "        if change.revision != expected:\n",
                "        if False:\n",
            ),
        ),
        ("tests/core/follow/test_acceptance.py::test_inv_10_only_contiguous_steps_are_applied",),
    ),
    Fault(
        "a retired epoch is not said",
        (
            Edit(
                f"{_CORE}/follow/acceptance.py",
                'return Alarm("retired", asked, got) if got.epoch < asked.epoch else None',
                "return None",
            ),
        ),
        (
            "tests/core/follow/test_acceptance.py::test_inv_7_a_new_epoch_is_taken_whole_and_said_and_a_retired_one_is_refused",
        ),
    ),
    Fault(
        "rewritten history is replayed",
        (
            Edit(
                f"{_CORE}/follow/bucket_view.py",
                'if version == known and expected not in ("", found):',
                "if False:",
            ),
        ),
        (
            "tests/core/follow/test_reconciler.py::test_inv_13_history_that_was_rewritten_behind_the_back_is_never_mixed_in",
        ),
    ),
    Fault(
        "a hint during a read is forgotten",
        (
            Edit(
                f"{_CORE}/follow/timing.py",
                "            self._dirty = True\n        elif",
                "            pass\n        elif",
            ),
        ),
        (
            "tests/core/follow/test_timing.py::test_a_hint_while_a_read_is_under_way_is_one_more_read_however_many_came",
        ),
    ),
    Fault(
        "the first read does not wait for the subscription",
        (
            Edit(
                f"{_CORE}/follow/reconciler.py",
                "                await listener.subscribed()\n",
                "                pass\n",
            ),
        ),
        (
            "tests/core/follow/test_reconciler.py::test_inv_11_it_subscribes_before_the_first_read_and_reads_when_it_is_connected_again",
        ),
    ),
    Fault(
        "a callback that raises ends the reader",
        (
            Edit(
                f"{_CORE}/follow/reconciler.py",
                '            log.exception("%s: a callback failed", self._name)\n',
                "            raise\n",
            ),
        ),
        (
            "tests/core/follow/test_reconciler.py::test_inv_16_callbacks_come_once_per_distinct_value_in_order_and_one_that_raises_stops_nothing",
        ),
    ),
    Fault(
        "publishing decides on one generation and commits on another",
        (
            Edit(
                f"{_ADAPTER}/generations/publisher.py",
                "                if self.current is not current or self.claim != claim:\n",
                "                if False:\n",
            ),
        ),
        (
            "tests/adapter/generations/test_publisher.py::test_a_generation_that_another_publishes_while_the_guard_thinks_is_counted_and_judged",
        ),
    ),
    Fault(
        "the page believes what others say to be markup",
        (
            Edit(
                f"{_PAGE}/markup.py",
                "        return Markup(escape(str(children)))\n",
                "        return Markup(str(children))\n",
            ),
        ),
        ("tests/runtime/page/test_page.py",),
    ),
    Fault(
        "the page shows a secret's size and digest like any file's",
        (
            Edit(
                f"{_PAGE}/node.py",
                '    if file.omitted == "secret":\n',
                '    if file.omitted == "no such thing":\n',
            ),
        ),
        ("tests/runtime/page/test_page.py",),
    ),
    Fault(
        "contents for whoever reaches the page",
        (
            Edit(
                f"{_PAGE}/views.py",
                'query["node"][:MAX_NAME], operator',
                'query["node"][:MAX_NAME], True',
            ),
        ),
        ("tests/runtime/page/test_page.py",),
    ),
    Fault(
        "a name that was made to lead here may replace files",
        (
            Edit(
                f"{_CORE}/server/access.py",
                '    if not is_own_name(headers.get("Host", "")):\n',
                "    if False:\n",
            ),
        ),
        ("tests/runtime/access/test_admission.py", "tests/core/server/test_access.py"),
    ),
    Fault(
        "a caller over TCP is an operator",
        (
            Edit(
                f"{_CORE}/server/access.py",
                "        return NO_SOCKET\n",
                "        return None\n",
            ),
        ),
        ("tests/runtime/access/test_admission.py", "tests/core/server/test_access.py"),
    ),
    Fault(
        "every user that may open the admin socket is an operator",
        (Edit(f"{_CORE}/server/access.py", " in (0, os.geteuid()) else _PEER", " >= 0 else _PEER"),),
        ("tests/core/server/test_access.py",),
    ),
    Fault(
        "a live admin socket is taken over",
        (
            Edit(
                "cfgsync_runtime/src/cfgsync_runtime/access/admin_socket.py",
                "            _remove_stale(path)\n",
                "            if os.path.lexists(path):\n                os.unlink(path)\n",
            ),
        ),
        ("tests/runtime/access/test_admin_socket.py",),
    ),
    Fault(
        "a command talks to whoever listens on the admin socket",
        (
            Edit(
                "cfgsync_runtime/src/cfgsync_runtime/access/admin_socket.py",
                "if mine not in (0, its) and its != 0:",
                "if False:",
            ),
        ),
        ("tests/runtime/access/test_admin_socket.py",),
    ),
    Fault(
        "the page answers to every name",
        (
            Edit(
                "cfgsync_runtime/src/cfgsync_runtime/access/admission.py",
                ' and not is_own_name(call.headers.get("Host", "")):',
                " and False:",
            ),
        ),
        ("tests/runtime/page/test_page.py",),
    ),
    Fault(
        "a join token is never used up",
        (Edit(f"{_TOKENS}/joining.py", "uses=token.uses - 1)", "uses=token.uses)"),),
        ("tests/runtime/access/tokens/test_joining.py",),
    ),
    Fault(
        "a use is spent without the revision that it was read at",
        (Edit(f"{_TOKENS}/joining.py", "commit(writes, expected)", "commit(writes)"),),
        ("tests/runtime/access/tokens/test_joining.py",),
    ),
    Fault(
        "a token with scopes is good everywhere",
        (Edit(f"{_TOKENS}/tokens.py", "return not token.scopes or (", "return True or ("),),
        ("tests/runtime/access/tokens/test_tokens.py",),
    ),
    Fault(
        "a session of the page is as good as its token",
        (
            Edit(
                f"{_TOKENS}/tokens.py",
                'return Principal("reader", token.name)',
                "return Shown(session.token, token).principal()",
            ),
        ),
        ("tests/runtime/access/tokens/test_tokens.py",),
    ),
    Fault(
        "the cookie of a session goes over plain HTTP, too",
        (
            Edit(
                "cfgsync_runtime/src/cfgsync_runtime/page/login/routes.py",
                "'; Secure' if has_tls else ''",
                "''",
            ),
        ),
        ("tests/runtime/page/test_login.py",),
    ),
    Fault(
        "a server starts with a parser of requests that is not strict",
        (Edit(f"{_CORE}/server/http.py", "        require_strict_parser()\n", ""),),
        ("tests/end_to_end/test_request_smuggling.py::test_without_the_parser_in_c_no_server_starts",),
    ),
    Fault(
        "the old secret stays good after the new one was used",
        (
            Edit(
                "cfgsync_runtime/src/cfgsync_runtime/access/identity.py",
                "now = Binding(bound.next) if is_next else",
                "now = bound if is_next else",
            ),
        ),
        ("tests/runtime/access/tokens/test_rotation.py",),
    ),
    Fault(
        "a node uses its new secret before the server has confirmed it",
        (
            Edit(
                "cfgsync_runtime/src/cfgsync_runtime/node/memory/rotation.py",
                "if answer.headers.get(NEXT_SECRET.lower()) == hashed:",
                "if answer.status < 300:",
            ),
        ),
        ("tests/runtime/node/memory/test_rotation.py",),
    ),
    Fault(
        "a form of another site logs a browser in",
        (
            Edit(
                f"{_ACCESS}/admission.py",
                "if origin is None:",
                "if True:",
            ),
        ),
        ("tests/runtime/page/test_login.py",),
    ),
    Fault(
        "a look that began before the question is good enough",
        (Edit(f"{_PAGE}/scan.py", "self._began >= requested:", "self._began >= requested - 60:"),),
        ("tests/runtime/page/test_page.py",),
    ),
    Fault(
        "the pytest plugin loads everything at once",
        (
            Edit(
                "cfgsync_runtime/src/cfgsync_runtime/pytest_plugin.py",
                "import pytest\n\nif TYPE_CHECKING:",
                "import pytest\n\nfrom .testing import fixtures as _\n\nif TYPE_CHECKING:",
            ),
        ),
        ("tests/runtime/test_pytest_plugin.py",),
    ),
    Fault(
        "a fixture's server is not ended",
        (Edit(f"{_TESTING}/running_server.py", "self._running.pop_all().close()", "pass"),),
        ("tests/runtime/test_pytest_plugin.py",),
    ),
    Fault(
        "a fleet's nodes do not follow",
        (
            Edit(
                f"{_TESTING}/fleet.py", "node.following = self.server.loop.start(self._follow(node))", "pass"
            ),
        ),
        ("tests/runtime/testing/test_fixtures.py",),
    ),
    Fault(
        "what a materializer raised is forgotten",
        (Edit(f"{_TESTING}/observed.py", "self.failure = error", "pass"),),
        ("tests/runtime/testing/test_fixtures.py",),
    ),
    Fault(
        "another node's memory is taken for one's own",
        (
            Edit(
                "cfgsync_runtime/src/cfgsync_runtime/node/memory/state.py",
                '        if seen.identifier not in ("", self.identifier):\n',
                "        if False:\n",
            ),
        ),
        ("tests/runtime/node/test_degraded_start.py",),
    ),
    Fault(
        "a fetch beside a watcher acknowledges for it",
        (
            Edit(
                "cfgsync_runtime/src/cfgsync_runtime/node/fetch.py",
                " and reports and not later",
                " and not later",
            ),
        ),
        (
            "tests/end_to_end/test_beside_a_watcher.py"
            "::test_a_fetch_beside_a_watcher_registers_nothing_and_reports_nothing",
        ),
    ),
    Fault(
        "the last words of a check go to the server",
        (
            Edit(
                "cfgsync_runtime/src/cfgsync_runtime/node/check.py",
                "return self._for_others or str(self)",
                "return str(self)",
            ),
        ),
        ("tests/runtime/node/test_check.py::test_a_refusal_keeps_the_old_files_and_leaves_nothing_behind",),
    ),
    Fault(
        "an old set goes at once",
        (Edit(f"{_ARTIFACTS}/kept_sets.py", "return 0 <= age < YOUNG", "return False"),),
        ("tests/artifacts/test_swapped_directory.py::test_old_sets_go_and_young_ones_and_the_last_few_stay",),
    ),
    Fault(
        "what cannot be removed blocks",
        (
            Edit(
                f"{_ARTIFACTS}/kept_sets.py",
                "                failed[os.path.join(self.target, HOME, name)] = error.strerror or str(error)\n",
                "                raise\n",
            ),
        ),
        ("tests/artifacts/test_disk_refuses.py",),
        needs="unshare",
    ),
    Fault(
        "a directory has as many keepers as come",
        (Edit(f"{_ARTIFACTS}/directory_lock.py", "held.enter_context(locked(fd, target))", "pass"),),
        ("tests/artifacts/test_directory_lock.py",),
    ),
    Fault(
        "a command that is to end is killed when it takes long",
        (
            Edit(
                "cfgsync_runtime/src/cfgsync_runtime/program/command.py",
                "        if not gone and not self._ending:\n",
                "        if not gone:\n",
            ),
        ),
        ("tests/runtime/program/test_command.py",),
    ),
    Fault(
        "a node that promised nothing expires",
        (
            Edit(
                f"{_ADAPTER}/nodes/last_seen.py",
                "        if self._expected.pop(identifier, None) is not None:\n",
                "        if self._expected.pop(identifier, known) is not None:\n",
            ),
        ),
        ("tests/adapter/nodes/test_presence.py",),
    ),
    Fault(
        "the words of a failure are for everyone",
        (
            Edit(
                f"{_CORE}/errors.py",
                "        self.told = cause if exposed or not at else at\n",
                "        self.told = cause\n",
            ),
        ),
        ("tests/adapter/runs/test_failure_words.py",),
    ),
    Fault(
        "settling has no end",
        (
            Edit(
                f"{_ADAPTER}/application/quorum.py",
                "            ends.append(since + self._settle_at_most)\n",
                "            pass\n",
            ),
        ),
        ("tests/adapter/application/test_wrappers.py",),
    ),
    Fault(
        "a signature is good for any node",
        (
            Edit(
                f"{_ACCESS}/signatures.py",
                "        if statement.identifier != identifier:\n",
                "        if False:\n",
            ),
        ),
        ("tests/runtime/access/test_signatures.py",),
    ),
    Fault(
        "a cache is used whoever signed it",
        (
            Edit(
                "cfgsync_runtime/src/cfgsync_runtime/node/degraded_start.py",
                "    if state.verify is not None:\n",
                "    if False:\n",
            ),
        ),
        ("tests/runtime/node/test_signed_files.py",),
    ),
    Fault(
        "an unchanged answer needs no signature",
        (
            Edit(
                f"{_CORE}/node/answers.py",
                "        if generation is not None:  # the node would accept nothing older from then on\n",
                "        if False:\n",
            ),
        ),
        ("tests/runtime/node/test_signed_files.py",),
    ),
    Fault(
        "the materializer's process keeps what the server has open",
        (
            Edit(
                "cfgsync_runtime/src/cfgsync_runtime/materializer/child_main.py",
                "    close_all_but(descriptor, lifeline)\n",
                "",
            ),
        ),
        ("tests/runtime/materializer/test_child.py",),
    ),
    Fault(
        "the server's memory is open to its own user",
        (
            Edit(
                "cfgsync_runtime/src/cfgsync_runtime/cli/parts/serve/server_run.py",
                "        refuse_inspection()\n",
                "",
            ),
        ),
        ("tests/end_to_end/test_signed_files.py",),
    ),
    Fault(
        "the memory of a watching node is open to its own user",
        (
            Edit(
                "cfgsync_runtime/src/cfgsync_runtime/cli/parts/fetch/watching.py",
                "    refuse_inspection()  # it holds the node's secret, and freed memory is not overwritten\n",
                "",
            ),
        ),
        (
            "tests/end_to_end/test_canary_in_processes.py::test_no_program_of_the_same_user_reads_the_memory_of_a_watching_node",
        ),
    ),
    Fault(
        "an operator's call that its caller leaves is not logged",
        (
            Edit(
                f"{_CORE}/server/http.py",
                "                self._access.answered(route, call, None)\n",
                "                pass\n",
            ),
        ),
        ("tests/runtime/access/test_audit.py",),
    ),
    Fault(
        "a login leads to another origin",
        (
            Edit(
                f"{_PAGE}/login/routes.py",
                "len(path) <= _LONGEST and _OWN.fullmatch(path)",
                "path.startswith('/')",
            ),
        ),
        ("tests/runtime/page/test_login.py",),
    ),
    Fault(
        "a late put replaces a newer value of the copy in KV",
        (Edit(f"{_NATS}/projection.py", "{EXPECTED: str(put.over), EPOCH:", "{EPOCH:"),),
        ("tests/runtime/backends/test_projection.py::test_a_put_that_comes_late_is_not_over_a_newer_one",),
    ),
    Fault(
        "the copy in KV believes whatever bears a later version",
        (
            Edit(
                f"{_NATS}/kv_bucket.py",
                "if now.digest != sha256(data).digest() or now.version != at:",
                "if now.version < at:",
            ),
        ),
        (
            "tests/runtime/backends/test_projection.py::test_what_no_server_can_have_put_is_mended_and_ends_no_copy",
        ),
    ),
    Fault(
        "an event that the service does not have is tried for ever",
        (Edit(f"{_INTEGRATIONS}/nats_events.py", "self._skip(version)", "raise LookupError(version)"),),
        (
            "tests/documents/test_nats_events.py::test_two_fleets_on_one_stream_cost_the_programs_of_none_an_event",
        ),
    ),
    Fault(
        "a program is current while its events go to another one",
        (
            Edit(
                f"{_INTEGRATIONS}/nats_events.py",
                "if info.num_pending or is_blocked or delivered > self._delivered:",
                "if False:",
            ),
        ),
        ("tests/documents/test_nats_events.py",),
    ),
    Fault(
        "environments share their results in Redis",
        (
            Edit(
                "cfgsync_documents/src/cfgsync_documents/client/expiry.py",
                "lengths, *self.shared.scope, kind, version",
                "lengths, version",
            ),
        ),
        ("tests/documents/test_shared_results.py",),
        needs="redis-server",
    ),
)
FAULTS += tuple(
    Fault(
        f"rollout: {one.name}",
        (Edit(f"{_ADAPTER}/rollout/{one.module}.py", one.old, one.new),),
        (
            "tests/adapter/rollout/test_grants.py",
            "tests/adapter/rollout/test_model.py::test_no_walk_through_the_model_breaks_an_invariant",
        ),
    )
    for one in IN_THE_FUNCTIONS
)
FAULTS += tuple(
    Fault(f"rollout: a node, {name}", (Edit(file, old, new),), tests)
    for name, file, old, new, *tests in (
        (
            "applied before its program is well",
            f"{_TRIALS}/changes.py",
            "return not self.trials.is_on and (self.telling",
            "return (self.telling",
            f"{_TURNS}a_change_waits_for_its_turn_is_on_trial_and_is_applied_when_it_is_healthy",
        ),
        (
            "the last good files are not written again",
            f"{_TRIALS}/trials.py",
            "        write(self._outputs.plan(self.good.payload.raw_files()))\n        return self.last_good",
            "        return self.last_good",
            f"{_TURNS}a_program_that_ends_on_trial_gets_its_old_files_back_and_is_not_tried_again_unasked",
            "tests/runtime/node/trials/test_start.py",
        ),
        (
            "its program is not told of the last good files",
            f"{_TRIALS}/changes.py",
            "            self.telling.installed(held.digest)\n        return",
            "            pass\n        return",
            f"{_TURNS}files_that_are_not_healthy_in_time_are_taken_back_and_the_program_is_told",
        ),
        (
            "a refused digest is forgotten at a start",
            f"{_TRIALS}/start.py",
            "return NodeTurn(self.group, trial, self.refused)",
            "return NodeTurn(self.group, trial, None)",
            "tests/runtime/node/trials/test_start.py",
        ),
        (
            "a refused digest is not noted",
            f"{_TRIALS}/trial_memory.py",
            "        self._put(REFUSED, msgspec.json.encode(note))\n",
            "",
            "tests/runtime/node/trials/test_start.py",
        ),
        (
            "refused files are remembered as good ones",
            f"{_TRIALS}/trials.py",
            "        self.turn.refused = RefusedFiles(fetched.generation, fetched.digest, why, words)\n",
            "        self.turn.refused = RefusedFiles(fetched.generation, fetched.digest, why, words)\n"
            "        remember(self._state, fetched, print)\n",
            "tests/runtime/node/trials/test_start.py",
        ),
        (
            "the cache advances before the trial has ended",
            f"{_TRIALS}/changes.py",
            "keep=not self.trials.is_on",
            "keep=True",
            f"{_TURNS}ro_11_a_trial_that_was_killed_still_goes_back_to_the_files_before_it",
        ),
        (
            "a trial is not noted before its files come",
            f"{_TRIALS}/trials.py",
            "            self._memory.begin(fetched, time.time())\n",
            "",
            f"{_TURNS}ro_11_after_kill_9_the_files_are_whole_and_the_trial_resumes",
        ),
        (
            "a killed trial leaves half its files",
            f"{_TRIALS}/start.py",
            "            write(outputs.plan(good.payload.raw_files()))\n",
            "            pass\n",
            "tests/runtime/node/trials/test_start.py",
        ),
        (
            "a start asks for files out of turn",
            f"{_TRIALS}/start.py",
            "return None if self.placed is None else self.turn.named(self.placed.payload.digest)",
            "return None",
            f"{_TURNS}a_start_out_of_turn_keeps_its_files_and_starts_its_program",
        ),
        (
            "a trial of old files proves the newer ones",
            f"{_TRIALS}/proving.py",
            "return self._is_over or self.trials.turn.trial != digest",
            "return self._is_over",
            "tests/runtime/node/trials/test_proving.py",
        ),
        (
            "a refused check is no failed turn",
            f"{_TRIALS}/proving.py",
            "        if refused:\n",
            "        if False:\n",
            f"{_TURNS}a_refused_check_is_a_failed_turn_that_disturbs_nothing_and_a_fix_is_taken",
        ),
        (
            "a failure is followed by applied for the old files",
            f"{_CORE}/node/watch/watched_node.py",
            "        if refused is not None:\n            if identifier",
            "        if False:\n            if identifier",
            "tests/core/node/watch/test_turn.py",
        ),
        (
            "a question does not name what the node has seen",
            f"{_CORE}/node/watch/watched_node.py",
            "        self._newest = max(self._newest, news.version)\n",
            "",
            "tests/core/node/watch/test_node_watch.py::test_a_question_names_the_newest_generation_that_the_node_has_seen_also_one_that_it_could_not_install",
        ),
    )
)
FAULTS += (
    Fault(
        "rollout: everybody reads what a program wrote",
        (
            Edit(
                f"{_CORE}/server/status_routes.py",
                "call.principal.role not in CONTENTS",
                "call.principal.role == 'nobody'",
            ),
        ),
        (
            "tests/end_to_end/test_rollout.py::test_content_that_fails_everywhere_disturbs_one_program_and_a_fix_goes_there_first",
        ),
    ),
    Fault(
        "rollout: what is given once more and fails as before is not reported",
        (
            Edit(
                f"{_CORE}/node/watch/watched_node.py",
                "                    self._acknowledger.forget(repeat=self._acknowledger.repeat)\n",
                "                    pass\n",
            ),
        ),
        ("tests/core/node/watch/test_turn.py",),
    ),
    Fault(
        "rollout: a server answers from before what a node has seen",
        (Edit(f"{_ADAPTER}/parts.py", " or (generation or NEVER) > current", ""),),
        ("tests/adapter/rollout/test_turns.py",),
    ),
)
