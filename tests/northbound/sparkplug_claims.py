"""Every assertion of the Sparkplug 3.0 specification by its tck-id: how ours holds it, or why it isn't ours to hold.

The ids are those of the specification's chapters and of its TCK (github.com/eclipse-sparkplug/sparkplug).
``SESSION`` names those that one played session is held to; ``BY_TEST`` those with a test of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

SESSION = "a played session"
CRASH = "conform/sparkplug_crash_test.py"
PEERS = "conform/adapters_peers_test.py"
UNIT = "northbound/sparkplug_test.py"
TCK = "northbound/sparkplug_tck_test.py"

BY_TEST: Mapping[str, str] = {
    "topics-nbirth-bdseq-increment": f"{UNIT}: test_tck_id_topics_nbirth_bdseq_increment",
    "payloads-nbirth-bdseq-inc": f"{CRASH}: test_tck_id_payloads_nbirth_bdseq_inc",
    "operational-behavior-data-commands-rebirth-action-1": (
        f"{UNIT}: test_tck_id_operational_behavior_data_commands_rebirth_action_1"
    ),
    **dict.fromkeys(
        (
            "message-flow-edge-node-birth-publish-phid-wait", "message-flow-edge-node-birth-publish-phid-wait-id",
            "message-flow-edge-node-birth-publish-phid-wait-online",
            "message-flow-edge-node-birth-publish-phid-wait-timestamp",
            "message-flow-edge-node-birth-publish-subscribe",
            "operational-behavior-edge-node-birth-sequence-wait",
            "operational-behavior-edge-node-termination-host-offline",
            "operational-behavior-edge-node-termination-host-offline-timestamp",
        ),
        f"{UNIT}: test_tck_id_message_flow_edge_node_birth_publish_phid_wait",
    ),
    **dict.fromkeys(
        (
            "operational-behavior-edge-node-termination-host-offline-reconnect",
            "operational-behavior-edge-node-intentional-disconnect-packet",
        ),
        f"{PEERS}: test_a_sparkplug_node_leaves_with_its_primary_host_and_comes_back",
    ),
    **dict.fromkeys(
        (
            "principles-persistence-clean-session", "principles-persistence-clean-session-311",
            "message-flow-edge-node-birth-publish-connect",
        ),
        f"{CRASH}: test_tck_id_principles_persistence_clean_session_311",
    ),
    **dict.fromkeys(
        (
            "payloads-propertyset-keys-array-size", "payloads-propertyset-values-array-size",
            "payloads-metric-propertyvalue-type-type", "payloads-metric-propertyvalue-type-value",
            "payloads-metric-propertyvalue-type-req", "payloads-propertyset-quality-value-type",
            "payloads-metric-datatype-value-type",
        ),
        f"{TCK}: test_tck_id_payloads_propertyset_on_the_wire",
    ),
}  # fmt: skip

NOT_OURS: Mapping[str, tuple[str, ...]] = {
    "the host application's": (
        "intro-sparkplug-host-state", "components-ph-state", "conformance-primary-host", "host-topic-phid-*",
        "message-flow-phid-*", "message-flow-hid-*", "operational-behavior-host-application-*",
        "operational-behavior-host-reordering-*",
        "operational-behavior-primary-application-state-with-multiple-servers-state", "payloads-state-*",
        "topics-ncmd-*", "topics-dcmd-*", "payloads-ncmd-*", "payloads-dcmd-*",
        "operational-behavior-data-commands-ncmd-*", "operational-behavior-data-commands-dcmd-*",
    ),
    "the broker's": ("conformance-mqtt-*",),
    "the site's, which names its nodes": (
        "topic-structure-namespace-unique-edge-node-descriptor", "payloads-nbirth-edge-node-descriptor",
    ),
    "of MQTT 5: the node speaks 3.1.1": ("principles-persistence-clean-session-50",),
    "of aliases: the node uses none": (
        "payloads-alias-uniqueness", "payloads-alias-birth-requirement", "payloads-alias-data-cmd-requirement",
    ),
    "of data sets and templates: the node has none": (
        "topics-nbirth-templates", "payloads-dataset-*", "payloads-template-*",
    ),
    "a permission, not a duty": (
        "topic-structure-namespace-duplicate-device-id-across-edge-node", "payloads-name-cmd-requirement",
    ),
    "**not met**: the node knows one broker and has none to move on to": (
        "operational-behavior-primary-application-state-with-multiple-servers-walk",
    ),
}  # fmt: skip

SESSION_IDS: tuple[str, ...] = (
    "case-sensitivity-metric-names",
    "case-sensitivity-sparkplug-ids",
    "intro-group-id-string",
    "intro-group-id-chars",
    "intro-edge-node-id-string",
    "intro-edge-node-id-chars",
    "intro-device-id-string",
    "intro-device-id-chars",
    "message-flow-device-birth-publish-dbirth-match-edge-node-topic",
    "message-flow-device-birth-publish-dbirth-payload",
    "message-flow-device-birth-publish-dbirth-payload-seq",
    "message-flow-device-birth-publish-dbirth-qos",
    "message-flow-device-birth-publish-dbirth-retained",
    "message-flow-device-birth-publish-dbirth-topic",
    "message-flow-device-birth-publish-nbirth-wait",
    "message-flow-device-dcmd-subscribe",
    "message-flow-edge-node-birth-publish-nbirth-payload",
    "message-flow-edge-node-birth-publish-nbirth-payload-bdSeq",
    "message-flow-edge-node-birth-publish-nbirth-payload-seq",
    "message-flow-edge-node-birth-publish-nbirth-qos",
    "message-flow-edge-node-birth-publish-nbirth-retained",
    "message-flow-edge-node-birth-publish-nbirth-topic",
    "message-flow-edge-node-birth-publish-will-message",
    "message-flow-edge-node-birth-publish-will-message-payload",
    "message-flow-edge-node-birth-publish-will-message-payload-bdSeq",
    "message-flow-edge-node-birth-publish-will-message-qos",
    "message-flow-edge-node-birth-publish-will-message-topic",
    "message-flow-edge-node-birth-publish-will-message-will-retained",
    "message-flow-edge-node-ncmd-subscribe",
    "operational-behavior-data-commands-rebirth-action-2",
    "operational-behavior-data-commands-rebirth-action-3",
    "operational-behavior-data-commands-rebirth-datatype",
    "operational-behavior-data-commands-rebirth-name",
    "operational-behavior-data-commands-rebirth-name-aliases",
    "operational-behavior-data-commands-rebirth-value",
    "operational-behavior-data-publish-dbirth",
    "operational-behavior-data-publish-dbirth-change",
    "operational-behavior-data-publish-dbirth-order",
    "operational-behavior-data-publish-dbirth-values",
    "operational-behavior-data-publish-nbirth",
    "operational-behavior-data-publish-nbirth-change",
    "operational-behavior-data-publish-nbirth-order",
    "operational-behavior-data-publish-nbirth-values",
    "operational-behavior-device-ddeath",
    "operational-behavior-edge-node-intentional-disconnect-ndeath",
    "operational-behavior-primary-application-state-with-multiple-servers-single-server",
    "payloads-dbirth-order",
    "payloads-dbirth-qos",
    "payloads-dbirth-retain",
    "payloads-dbirth-seq",
    "payloads-dbirth-seq-inc",
    "payloads-dbirth-timestamp",
    "payloads-ddata-order",
    "payloads-ddata-qos",
    "payloads-ddata-retain",
    "payloads-ddata-seq",
    "payloads-ddata-seq-inc",
    "payloads-ddata-timestamp",
    "payloads-ddeath-seq",
    "payloads-ddeath-seq-inc",
    "payloads-ddeath-seq-number",
    "payloads-ddeath-timestamp",
    "payloads-metric-datatype-not-req",
    "payloads-metric-datatype-req",
    "payloads-metric-datatype-value",
    "payloads-metric-timestamp-in-UTC",
    "payloads-name-birth-data-requirement",
    "payloads-name-requirement",
    "payloads-nbirth-bdseq",
    "payloads-nbirth-bdseq-repeat",
    "payloads-nbirth-qos",
    "payloads-nbirth-rebirth-req",
    "payloads-nbirth-retain",
    "payloads-nbirth-seq",
    "payloads-nbirth-timestamp",
    "payloads-ndata-order",
    "payloads-ndata-qos",
    "payloads-ndata-retain",
    "payloads-ndata-seq",
    "payloads-ndata-seq-inc",
    "payloads-ndata-timestamp",
    "payloads-ndeath-bdseq",
    "payloads-ndeath-seq",
    "payloads-ndeath-will-message",
    "payloads-ndeath-will-message-publisher",
    "payloads-ndeath-will-message-qos",
    "payloads-ndeath-will-message-retain",
    "payloads-propertyset-quality-value-value",
    "payloads-sequence-num-always-included",
    "payloads-sequence-num-incrementing",
    "payloads-sequence-num-zero-nbirth",
    "payloads-timestamp-in-UTC",
    "principles-birth-certificates-order",
    "principles-rbe-recommended",
    "topic-structure",
    "topic-structure-namespace-a",
    "topic-structure-namespace-device-id-associated-message-types",
    "topic-structure-namespace-device-id-non-associated-message-types",
    "topic-structure-namespace-unique-device-id",
    "topic-structure-namespace-valid-device-id",
    "topic-structure-namespace-valid-edge-node-id",
    "topic-structure-namespace-valid-group-id",
    "topics-dbirth-metric-reqs",
    "topics-dbirth-metrics",
    "topics-dbirth-mqtt",
    "topics-dbirth-seq",
    "topics-dbirth-timestamp",
    "topics-dbirth-topic",
    "topics-ddata-mqtt",
    "topics-ddata-payload",
    "topics-ddata-seq-num",
    "topics-ddata-timestamp",
    "topics-ddata-topic",
    "topics-ddeath-mqtt",
    "topics-ddeath-seq-num",
    "topics-ddeath-topic",
    "topics-nbirth-bdseq-included",
    "topics-nbirth-bdseq-matching",
    "topics-nbirth-metric-reqs",
    "topics-nbirth-metrics",
    "topics-nbirth-mqtt",
    "topics-nbirth-rebirth-metric",
    "topics-nbirth-seq-num",
    "topics-nbirth-timestamp",
    "topics-nbirth-topic",
    "topics-ndata-mqtt",
    "topics-ndata-payload",
    "topics-ndata-seq-num",
    "topics-ndata-timestamp",
    "topics-ndata-topic",
    "topics-ndeath-payload",
    "topics-ndeath-seq",
    "topics-ndeath-topic",
)


def claims() -> Iterator[tuple[str, str]]:
    """Yield each id and how it is held, or whose it is, in the order of their names."""
    held = {**dict.fromkeys(SESSION_IDS, SESSION), **BY_TEST}
    whose = {name: f"not ours: {why}" for why, names in NOT_OURS.items() for name in names if "**" not in why}
    whose |= {name: why for why, names in NOT_OURS.items() for name in names if "**" in why}
    yield from sorted((held | whose).items())
