"""Who may begin how many webhooks."""

from jobs.store.destination import Destination
from worker.webhooks.slots import WebhookSlots


def taken(slots, *destinations):
    """Take all the room that there is for each of them in turn; how much that was."""
    return [_fill(slots, destination) for destination in destinations]


def _fill(slots, destination):
    room = slots.room(destination)
    for _ in range(room):
        slots.take(destination)
    return room


def test_one_key_takes_few_slots_at_a_host_and_leaves_some_to_others():
    slots = WebhookSlots(1000, 8)
    owners = [Destination(owner, "busy.example:443") for owner in "abcde"]
    assert taken(slots, *owners, owners[0]) == [8, 8, 8, 8, 0, 0]
    slots.release(owners[0])
    assert slots.room(owners[4]) == 1


def test_one_key_with_many_hosts_holds_half_of_all_slots_and_two_a_third_each():
    slots = WebhookSlots(100, 8)
    for owner, most in (("a", 50), ("b", 25), ("a", 0)):
        assert sum(taken(slots, *(Destination(owner, f"{n}.example:443") for n in range(100)))) == most
    assert slots.room(Destination("c", "c.example:443")) == 8


def test_a_single_slot_is_given_and_comes_back():
    slots, destination = WebhookSlots(1, 8), Destination("", "a.example:443")
    assert taken(slots, destination, destination) == [1, 0]
    slots.release(destination)
    assert (slots.room(destination), slots.busy) == (1, 0)
