package flow

// NodeLedger accounts for the records of one boot of one collector. Exactly:
//
//	Produced = Delivered + InFlight + sum of Lost
//
// Produced counts records that the node made, and kernel events that were lost before they became one.
type NodeLedger struct {
	Node      *Node
	Connected bool
	Since     int64  // Unix ns of the last change of Connected
	Produced  uint64 // as last reported by the collector
	Delivered uint64 // handed to the relay's consumers
	InFlight  uint64 // produced, neither delivered nor lost yet
	Lost      map[string]uint64
}

// Stages at which records are lost, the keys of NodeLedger.Lost.
const (
	StageKernelRing  = "kernel.ring"       // no room in the ring buffer
	StageDecode      = "collector.decode"  // record of unknown version or shape
	StagePublish     = "collector.publish" // queue to the relay full
	StageRelayIngest = "relay.ingest"      // sequence gap: sent by the collector, never arrived
	StageRelayMerge  = "relay.merge"       // merge buffer full
	StageStorage     = "relay.storage"     // storage refused or queue full
)
