package bpf

// Types of the records and maps, generated from the objects' BTF. Field comments are in headers/event.h,
// headers/flowtable.h and headers/policy.h.
type (
	Header       = tcxPlxHdr
	Tuple        = tcxPlxTuple
	FlowEvent    = tcxPlxFlowEvent
	DropEvent    = tcxPlxDropEvent
	PayloadEvent = tcxPlxPayloadEvent
	FlowKey      = tcxPlxFlowKey
	FlowEntry    = tcxPlxFlow
	Process      = tcxPlxProcess

	PolicyRecord  = tcxPlxPolicyRecord
	PolicyBlock   = tcxPlxPolicyBlock
	PolicyRule    = tcxPlxPolicyRule
	PolicyService = tcxPlxPolicyService
)

// EventVersion is PLX_EVENT_VERSION.
const EventVersion = 2

// Types of records, enum plx_event_type.
const (
	EventFlow    uint8 = 1
	EventDrop    uint8 = 2
	EventPayload uint8 = 3
)

// Kinds of flow events, enum plx_kind.
const (
	KindNew     uint8 = 1
	KindState   uint8 = 2
	KindUpdate  uint8 = 3
	KindClose   uint8 = 4
	KindDrop    uint8 = 5
	KindVerdict uint8 = 7
)

// What policy said of a connection, enum plx_verdict.
const (
	VerdictNone    uint8 = iota // nothing: no policy decides here
	VerdictAllowed              // by a rule or an exception
	VerdictDenied               // and dropped
	VerdictAudit                // would be denied, but only audits
)

// Bits of PolicyRecord.Flags, enum plx_policy_flag.
const (
	PolicyAudit    uint32 = 1 << iota // say what would be denied, deny nothing
	PolicySkipPods                    // blocks of addresses do not match identities of pods
)

// Role is what an interface is, enum plx_role; the value of the map Objects.Interfaces.
type Role uint32

const (
	RoleNone     Role = iota // not observed
	RoleEndpoint             // host side of a pod's veth
	RoleNetwork              // NIC or uplink
	RoleHost                 // loopback of the host; each packet is taken at egress only
	RoleOverlay              // tunnel device
)

// Bits of FlowEntry.State, enum plx_state.
const (
	StateInitHi       uint32 = 1 << iota // the initiator is the key's hi side
	StateSyn                             // the connection began with a SYN that was seen
	StateSynAck                          // a SYN-ACK was seen
	StateEstablished                     // the handshake's last ACK was seen
	StateFinInit                         // FIN by the initiator
	StateFinResp                         // FIN by the responder
	StateClosed                          // RST, or ACK after both FINs
	StateCloseSent                       // the CLOSE event reached the ring
	StateAskedInit                       // the initiator's socket was looked for
	StateAskedResp                       // the responder's socket was looked for
	StatePIDResponder                    // cookie and pid are the responder's
	StateInitEgress                      // the initiator's packets leave by the interface's egress hook
	StatePassed                          // packets of it passed; clear: denied from its first packet on
	StateDeciding                        // a CPU is writing a new verdict
)

// Stat is an index of the stats map, enum plx_stat.
type Stat uint32

const (
	StatEvents    Stat = iota // records that the programs tried to send
	StatLostRing              // of these: no room in the ring buffer
	StatLostTable             // packets not tracked: flow table full, or against the direction of their entry
	StatPackets               // packets seen on observed interfaces; segments of a GSO packet count each
	StatUnparsed              // of these: not IP, cut or malformed
	StatDrops                 // kfree_skb calls that were taken as drops
	StatLostHint              // socket makers and fragment ports that found no room
	StatCount
)
