from images.codec.fair_slots import FairSlots


def served(futures):
    return [name for name, future in futures.items() if future.done() and not future.cancelled()]


def test_one_owner_leaves_a_slot_for_the_next():
    slots = FairSlots(3)
    greedy = [slots.ask("greedy") for _ in range(5)]
    assert [future.done() for future in greedy] == [True, True, False, False, False]
    assert slots.ask("other").done()
    assert slots.waiting == 3


def test_a_single_slot_goes_round():
    slots = FairSlots(1)
    futures = {"first": slots.ask("a"), "second": slots.ask("a"), "third": slots.ask("a"), "other": slots.ask("b")}
    order = served(futures)
    while len(order) < 4:
        slots.give_back("b" if order[-1] == "other" else "a")
        order += [name for name in served(futures) if name not in order]
    assert order == ["first", "other", "second", "third"] or order == ["first", "second", "other", "third"]
    assert order.index("other") < order.index("third")


def test_owners_take_turns():
    slots = FairSlots(1)
    slots.ask("busy")
    asked = [slots.ask(owner) for owner in ("a", "a", "b", "b", "c")]
    order = []
    last = "busy"
    for _ in range(5):
        slots.give_back(last)
        (at,) = [at for at, future in enumerate(asked) if future.done() and at not in order]
        order.append(at)
        last = "aabbc"[at]
    assert order == [0, 2, 4, 1, 3]


def test_the_service_itself_may_have_all():
    slots = FairSlots(2)
    assert slots.ask(None).done()
    assert slots.ask(None).done()


def test_who_stops_waiting_is_passed_over():
    slots = FairSlots(1)
    slots.ask("a")
    gone, waits = slots.ask("b"), slots.ask("c")
    gone.cancel()
    slots.give_back("a")
    assert waits.done()
    assert slots.waiting == 0
