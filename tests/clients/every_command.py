"""Sends every command with pika, and checks every reply and event as a stranger sees them.

Called by main.rs with the broker's URL in GROUPMQ_AMQP__URL and a worker running. Knows nothing of
groupmq but the contract. Prints a line for each command; ends with an AssertionError otherwise.
"""

import base64
import json
import os
import uuid
import zlib

import pika

ME, SECOND = "15550000001@c.us", "15550000002@c.us"  # the accounts of the sessions default, second
THIRD = "15550000003@c.us"  # the account of the session third
ANNA, BEN = "15550000100@c.us", "15550000101@c.us"
PRIVATE = "99900000000403@c.us"
PATIENCE = 30  # seconds

connection = pika.BlockingConnection(pika.URLParameters(os.environ["GROUPMQ_AMQP__URL"]))


class Listener:
    """A queue of its own, bound or not, or one that is there; on a channel of its own."""

    def __init__(self, exchange=None, queue=None):
        self.channel = connection.channel()
        self.queue = queue or self.channel.queue_declare("", exclusive=True).method.queue
        if exchange:
            self.channel.queue_bind(self.queue, exchange, "#")

    def next(self, patience=PATIENCE):
        """The next message; none if none comes."""
        consume = self.channel.consume(self.queue, auto_ack=True, inactivity_timeout=patience)
        method, properties, body = next(consume)
        return method and (method, properties, body)


publisher = connection.channel()
publisher.confirm_delivery()
direct, replies, events = Listener(), Listener("groupmq.replies"), Listener("groupmq.events")
sequences = {}
event_ids = {}


def check(condition, what, *shown):
    """An assertion that shows what it is about."""
    if not condition:
        raise AssertionError(f"{what}: {' '.join(repr(it) for it in shown)}")


def publish(session, body, **properties):
    """Publishes a command, which must reach a queue."""
    publisher.basic_publish(
        exchange="groupmq.commands",
        routing_key=session,
        body=body if isinstance(body, bytes) else json.dumps(body),
        properties=pika.BasicProperties(reply_to=direct.queue, **properties),
        mandatory=True,
    )


def check_properties(properties, body, kind):
    """The AMQP properties that every reply and event has."""
    check(properties.content_type == "application/json", "content_type", properties)
    check(properties.delivery_mode == 2, "delivery_mode", properties)
    check(properties.app_id == "groupmq", "app_id", properties)
    check(properties.message_id == body["id"], "message_id", properties, body)
    check(properties.type == kind, "type", properties, kind)
    check(isinstance(properties.timestamp, int), "timestamp", properties)


def reply_to(command_id, key, correlation_id, kind):
    """The reply, which came to reply_to and to the exchange."""
    method, properties, body = direct.next()
    check(method.exchange == "", "the reply's exchange", method)
    check(properties.correlation_id == correlation_id, "correlation_id", properties)
    other_method, other_properties, other_body = replies.next()
    check(other_method.routing_key == key, "the reply's routing key", other_method, key)
    check(other_body == body and other_properties == properties, "two different replies")
    reply = json.loads(body)
    check_properties(properties, reply, kind)
    check(reply["commandId"] == command_id, "commandId", reply)
    check(reply["engine"] == "SANDBOX", "engine", reply)
    return reply


def next_event(command_id, first_time=True):
    """The next event, caused by this command, and what it is in short."""
    method, properties, body = events.next()
    event = json.loads(body)
    check_properties(properties, event, event["event"])
    check(method.exchange == "groupmq.events", "the event's exchange", method)
    check(method.routing_key == f"{event['session']}.{event['event']}", "routing key", method)
    check(list(event) == ["id", "timestamp", "event", "session", "engine", "payload"], "fields", event)
    payload = event["payload"]
    check(payload["commandId"] == command_id, "commandId", event)
    if first_time:
        sequences[event["session"]] = sequences.get(event["session"], 0) + 1
        check(payload["sequence"] == sequences[event["session"]], "sequence", event)
        event_ids.setdefault(command_id, []).append(event["id"])
    kind = payload.get("type")
    return event, f"{method.routing_key} {kind}" if kind else method.routing_key


def send(session, command, payload, expected_events=()):
    """Sends a command and returns the result of its reply, after the events that it should cause."""
    command_id = f"{command}-{uuid.uuid4()}"
    if len(command) % 2:
        body = {"id": command_id, "type": command, "session": session, "payload": payload}
        publish(session, body, correlation_id="c-1")
    else:  # everything but the payload in the properties and the routing key
        publish(session, {"payload": payload}, correlation_id="c-1", message_id=command_id, type=command)
    reply = reply_to(command_id, f"{session}.{command}.ok", "c-1", command)
    check(reply["status"] == "ok" and reply["type"] == command, "the reply", reply)
    check(reply["session"] == session and reply["replayed"] is False, "the reply", reply)
    came = [next_event(command_id) for _ in expected_events]
    check([told for _, told in came] == list(expected_events), f"events of {command}", came)
    print(command, session, len(came), flush=True)
    return reply["result"], [event["payload"] for event, _ in came], command_id


def person(phone, role):
    """Somebody in an event; the sandbox's private ids are 8000 and the number."""
    return {"id": phone, "role": role, "lid": f"8000{phone.removesuffix('@c.us')}@lid", "pn": phone}


def outcomes(result):
    return [(it["id"], it["outcome"], it["code"]) for it in result]


# ---- every command -------------------------------------------------------------------------------

members = {"name": "Climbing", "participants": [SECOND, {"id": ANNA}, PRIVATE]}
created, told, creation = send(
    "default",
    "CreateGroup",
    members,
    [
        "default.group.v2.join",
        "default.group.join create",
        "second.group.v2.join",
        "second.group.join create",
    ],
)
group = created["id"]
check(group.endswith("@g.us") and created["owner"] == ME and created["size"] == 3, "the group", created)
check(
    outcomes(created["outcomes"])
    == [(SECOND, "ok", 200), (ANNA, "ok", 200), (PRIVATE, "privacyBlocked", 403)],
    "outcomes",
    created,
)
check(len(created["outcomes"][2]["invite"]["code"]) == 16, "the private invite", created)
check(told[1]["recipientIds"] == [ME, SECOND, ANNA] and told[1]["author"] == ME, "group.join", told)
check(told[1]["chatId"] == group and told[1]["body"] == "", "group.join", told)

it = {"groupId": group}
got, _, _ = send("second", "GetGroup", it)
check(got == {key: value for key, value in created.items() if key != "outcomes"}, "GetGroup", got)

listed, _, _ = send("default", "ListGroups", {"exclude": ["participants"]})
check([one["id"] for one in listed] == [group] and "participants" not in listed[0], "ListGroups", listed)

people, _, _ = send("default", "GetParticipants", it)
check(
    [(one["id"], one["role"]) for one in people]
    == [(ME, "superadmin"), (SECOND, "participant"), (ANNA, "participant")],
    "GetParticipants",
    people,
)

check(people[1]["pn"] == SECOND and people[1]["lid"].endswith("@lid"), "lid and pn", people)

pair = {"lid": people[1]["lid"], "pn": SECOND}
pairs, _, _ = send("default", "ListLids", {"limit": 10})
check(pair in pairs, "ListLids", pairs)
counted, _, _ = send("default", "CountLids", {})
check(counted == {"count": len(pairs)}, "CountLids", counted)
found, _, _ = send("default", "GetPhoneByLid", {"lid": pair["lid"]})
check(found == pair, "GetPhoneByLid", found)
found, _, _ = send("default", "GetLidByPhone", {"phone": "+15550000002"})
check(found == pair, "GetLidByPhone", found)

added, told, _ = send(
    "default",
    "AddParticipants",
    {**it, "participants": [BEN, ANNA]},
    [
        "default.group.join add",
        "default.group.v2.participants join",
        "second.group.join add",
        "second.group.v2.participants join",
    ],
)
check(outcomes(added) == [(BEN, "ok", 200), (ANNA, "alreadyMember", 409)], "AddParticipants", added)
check(told[0]["recipientIds"] == [BEN], "group.join", told)
check(told[1]["participants"] == [person(BEN, "participant")], "participants", told)

removed, told, _ = send(
    "default",
    "RemoveParticipants",
    {**it, "participants": [ANNA]},
    [
        "default.group.left remove",
        "default.group.v2.participants leave",
        "second.group.left remove",
        "second.group.v2.participants leave",
    ],
)
check(outcomes(removed) == [(ANNA, "ok", 200)], "RemoveParticipants", removed)
check(told[0]["recipientIds"] == [ANNA] and told[0]["author"] == ME, "group.left", told)

promoted, told, _ = send(
    "default",
    "PromoteAdmin",
    {**it, "participants": [{"id": SECOND}]},
    ["default.group.v2.participants promote", "second.group.v2.participants promote"],
)
check(outcomes(promoted) == [(SECOND, "ok", 200)], "PromoteAdmin", promoted)
check(told[0]["participants"] == [person(SECOND, "admin")], "participants", told)

update = ["default.group.v2.update", "second.group.v2.update"]
done, told, _ = send("second", "SetGroupSubject", {**it, "subject": "Klettern am Sonntag 🧗"}, update)
check(done is True and told[0]["group"] == {"id": group, "subject": "Klettern am Sonntag 🧗"}, "subject", told)
check(told[0]["author"] == SECOND, "author", told)

done, told, _ = send("default", "SetGroupDescription", {**it, "description": "Rope?\nShoes?"}, update)
check(done is True and told[1]["group"]["description"] == "Rope?\nShoes?", "description", told)

pixel = base64.b64encode(
    b"\x89PNG\r\n\x1a\n"
    + b"".join(
        len(part).to_bytes(4, "big") + kind + part + zlib.crc32(kind + part).to_bytes(4, "big")
        for kind, part in [
            (b"IHDR", b"\0\0\0\1\0\0\0\1\x08\2\0\0\0"),
            (b"IDAT", zlib.compress(b"\0\xff\0\0")),
            (b"IEND", b""),
        ]
    )
).decode()
done, told, _ = send("second", "SetGroupPicture", {**it, "picture": {"data": pixel}}, update)
check(done is True and told[0]["group"] == {"id": group, "picture": "changed"}, "picture", told)

shown, _, _ = send("default", "GetGroupPicture", {**it, "refresh": True})
check(list(shown) == ["url"] and shown["url"].startswith("https://"), "GetGroupPicture", shown)

done, told, _ = send("default", "DeleteGroupPicture", it, update)
check(done is True and told[1]["group"] == {"id": group, "picture": "removed"}, "picture", told)

done, told, _ = send("default", "SetInfoAdminOnly", it, update)
check(done is True and told[0]["group"]["infoAdminOnly"] is True, "infoAdminOnly", told)

setting, _, _ = send("second", "GetInfoAdminOnly", it)
check(setting == {"adminsOnly": True}, "GetInfoAdminOnly", setting)

for name, field, value, shown in (
    ("MessagesAdminOnly", "adminsOnly", True, "messagesAdminOnly"),
    ("MemberAddMode", "membersCanAddNewMember", False, "membersCanAddNewMember"),
    ("MembershipApproval", "newMembersApprovalRequired", True, "newMembersApprovalRequired"),
    ("MemberShareHistory", "membersCanShareHistory", False, "membersCanShareHistory"),
):
    setting, _, _ = send("second", f"Get{name}", it)
    check(setting == {field: not value}, f"Get{name}", setting)
    done, told, _ = send("default", f"Set{name}", {**it, field: value}, update)
    check(done is True and told[0]["group"] == {"id": group, shown: value}, f"Set{name}", told)
    setting, _, _ = send("second", f"Get{name}", it)
    check(setting == {field: value}, f"Get{name}", setting)

done, told, _ = send("default", "SetDisappearingMessages", {**it, "seconds": 86400}, update)
check(done is True, "SetDisappearingMessages", done)
check(told[1]["group"] == {"id": group, "disappearingSeconds": 86400}, "SetDisappearingMessages", told)

counted, _, _ = send("second", "CountGroups", {})
check(counted == {"count": 1}, "CountGroups", counted)
refreshed, _, _ = send("default", "RefreshGroups", {})
check(refreshed is True, "RefreshGroups", refreshed)

demoted, told, _ = send(
    "default",
    "DemoteAdmin",
    {**it, "participants": [SECOND]},
    ["default.group.v2.participants demote", "second.group.v2.participants demote"],
)
check(outcomes(demoted) == [(SECOND, "ok", 200)], "DemoteAdmin", demoted)

done, _, _ = send("second", "SetGroupSubject", {**it, "subject": "Mine"})
check(done is False, "a subject without permission", done)

invite, _, _ = send("default", "GetInviteCode", it)
check(invite["inviteUrl"] == "https://chat.whatsapp.com/" + invite["inviteCode"], "invite", invite)

wish = {**it, "description": "As wanted", "participants": [BEN, ANNA, PRIVATE]}
steps = ["SetGroupDescription", "AddParticipants"]
plan, _, _ = send("default", "EnsureGroup", {**wish, "plan": True})
check([one["type"] for one in plan["changes"]] == steps and plan["seconds"] == 0, "the plan", plan)
ensured, told, _ = send(
    "default",
    "EnsureGroup",
    wish,
    [
        *update,
        "default.group.join add",
        "default.group.v2.participants join",
        "second.group.join add",
        "second.group.v2.participants join",
    ],
)
check([one["type"] for one in ensured["changes"]] == steps, "EnsureGroup", ensured)
check(outcomes(ensured["outcomes"]) == [(ANNA, "ok", 200), (PRIVATE, "privacyBlocked", 403)], "outcomes", ensured)
check(told[2]["recipientIds"] == [ANNA], "who was added", told)
again, _, _ = send("default", "EnsureGroup", {**wish, "participants": [BEN, ANNA]})
check(again["changes"] == [] and again["group"] == ensured["group"], "EnsureGroup again", again)

fresh, told, _ = send("default", "RevokeInviteCode", it, ["default.group.v2.update"])
check(fresh["inviteCode"] != invite["inviteCode"], "RevokeInviteCode", fresh)
check(told[0]["group"] == {"id": group, "invite": fresh["inviteUrl"]}, "the new invite", told)

link = fresh["inviteUrl"] + "?mode=ac_t"
info, _, _ = send("third", "GetJoinInfo", {"code": link})
check((info["id"], info["size"]) == (group, 4), "GetJoinInfo", info)
check(info["newMembersApprovalRequired"] is True, "GetJoinInfo", info)

request = "default.group.v2.participants.join-request"
joined, told, _ = send("third", "JoinGroup", {"code": link}, [request])
check(joined == {"groupId": group, "outcome": "pendingApproval"}, "JoinGroup", joined)
check(told[0]["action"] == "created" and told[0]["requesterId"] == THIRD, "a request", told)
check(told[0]["requesterPn"] == THIRD and told[0]["requestMethod"] == "invite_link", "a request", told)

waiting, _, _ = send("default", "ListJoinRequests", it)
check([one["requesterId"] for one in waiting] == [THIRD], "ListJoinRequests", waiting)
check(waiting[0]["requestMethod"] == "invite_link", "ListJoinRequests", waiting)

asked = {**it, "participants": [THIRD]}
rejected, told, _ = send("default", "RejectJoinRequests", asked, [request])
check(outcomes(rejected) == [(THIRD, "ok", 200)], "RejectJoinRequests", rejected)
check(told[0]["action"] == "rejected" and told[0]["author"] == ME, "a rejected request", told)

send("third", "JoinGroup", {"code": fresh["inviteCode"]}, [request])
approved, told, _ = send(
    "default",
    "ApproveJoinRequests",
    asked,
    [
        request,
        "default.group.join add",
        "default.group.v2.participants join",
        "second.group.join add",
        "second.group.v2.participants join",
        "third.group.v2.join",
        "third.group.join add",
    ],
)
check(outcomes(approved) == [(THIRD, "ok", 200)], "ApproveJoinRequests", approved)
check(told[0]["action"] == "approved" and told[0]["author"] == ME, "an approved request", told)

joined, _, _ = send("third", "JoinGroup", {"code": link})
check(joined == {"groupId": group, "outcome": "alreadyMember"}, "JoinGroup again", joined)
send(
    "third",
    "LeaveGroup",
    it,
    [
        "default.group.left leave",
        "default.group.v2.participants leave",
        "second.group.left leave",
        "second.group.v2.participants leave",
        "third.group.v2.leave",
        "third.group.left leave",
    ],
)

left, told, _ = send(
    "second",
    "LeaveGroup",
    it,
    [
        "default.group.left leave",
        "default.group.v2.participants leave",
        "second.group.v2.leave",
        "second.group.left leave",
    ],
)
check(left is True and told[0]["author"] == SECOND, "LeaveGroup", told)

deleted, _, _ = send(
    "default",
    "DeleteGroup",
    {**it, "forEveryone": True},
    [
        "default.group.left remove",
        "default.group.v2.participants leave",
        "default.group.v2.leave",
        "default.group.left leave",
    ],
)
check(deleted is True, "DeleteGroup", deleted)

# Disabled, so that nothing is sent anywhere and nothing happens to it.
hook = {"id": "orders", "url": "https://shop.example.com/", "hmac": {"key": "hunter2"}, "disabled": True}
endpoint, _, _ = send("default", "SetWebhook", hook)
check(endpoint["id"] == "default.orders" and endpoint["sessions"] == ["default"], "SetWebhook", endpoint)
check(endpoint["state"] == "disabled" and "hunter2" not in str(endpoint), "SetWebhook", endpoint)

listed, _, _ = send("default", "ListWebhooks", {})
check(listed == [endpoint], "ListWebhooks", listed)
others, _, _ = send("second", "ListWebhooks", {})
check(others == [], "ListWebhooks of another session", others)

tested, _, _ = send("default", "TestWebhook", {"id": "orders"})
hooks = Listener(queue="groupmq.webhook.default.orders")
_, properties, body = hooks.next()
test = json.loads(body)
check_properties(properties, test, "webhook.test")
check(test["id"] == tested["eventId"] and test["session"] == "default", "TestWebhook", test)
check(test["payload"]["webhook"] == "default.orders", "TestWebhook", test)

removed, _, _ = send("default", "RemoveWebhook", {"id": "orders", "discard": True})
check(removed is True, "RemoveWebhook", removed)

# ---- the same again, and what is wrong -----------------------------------------------------------

body = {"id": creation, "type": "CreateGroup", "session": "default", "payload": members}
publish("default", body)
reply = reply_to(creation, "default.CreateGroup.ok", None, "CreateGroup")
check(reply["replayed"] is True and reply["result"] == created, "a repetition", reply)
again = [next_event(creation, first_time=False)[0]["id"] for _ in event_ids[creation]]
check(again == event_ids[creation], "the events of a repetition", again)

publish("default", {**body, "payload": {**members, "name": "Other"}})
reply = reply_to(creation, "default.CreateGroup.error", None, "CreateGroup")
check(reply["error"]["code"] == "ID_REUSED", "an id for two commands", reply)

publish("second", {"id": "x", "type": "GetGroup", "session": "default", "payload": it})
reply = reply_to("x", "second.GetGroup.error", None, "GetGroup")
check(reply["error"]["code"] == "SESSION_MISMATCH", "another session in the body", reply)

publish("default", {"id": "y", "type": "GetGroup", "payload": {"groupId": "1", "more": 1}})
reply = reply_to("y", "default.GetGroup.error", None, "GetGroup")
paths = [detail["path"] for detail in reply["error"]["details"]]
check(reply["error"]["code"] == "INVALID_PAYLOAD", "a wrong payload", reply)
check(sorted(paths) == ["/payload/groupId", "/payload/more"], "every wrong field", reply)

hopeless = b"\xff{ not JSON"
publish("default", hopeless, message_id="z", headers={"trace": "abc"})
reply = reply_to("z", "default.~.error", None, None)
check(reply["error"]["code"] == "INVALID_JSON", "no JSON", reply)

check(events.next(patience=0.2) is None, "an event too many")

dead = [publisher.basic_get("groupmq.dead.commands", auto_ack=True) for _ in range(5)]
check(dead[4][0] is None, "dead letters too many", dead)
codes = [properties.headers["groupmq-fault-code"] for _, properties, _ in dead[:4]]
check(codes == ["ID_REUSED", "SESSION_MISMATCH", "INVALID_PAYLOAD", "INVALID_JSON"], "dead letters", codes)
_, properties, body = dead[3]
headers = properties.headers
check(body == hopeless and properties.message_id == "z", "a dead letter", properties, body)
check(headers["trace"] == "abc", "the producer's own header", headers)
check(headers["groupmq-original-exchange"] == "groupmq.commands", "headers", headers)
check(headers["groupmq-original-routing-key"] == "default", "headers", headers)
check("UTF-8" in headers["groupmq-fault-reason"], "headers", headers)
check(headers["groupmq-first-seen"].endswith("Z"), "headers", headers)
connection.close()
