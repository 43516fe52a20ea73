// Package wire is the form in which flows travel from a collector to the relay: a codec for batches and the frames of the
// ingest stream around them.
//
// # Batch
//
// A batch stands alone: it carries its own dictionary of addresses, endpoints, nodes, drops, decisions and strings, so that a resend
// after a reconnect needs no state that the other side may have lost. Repetition across batches costs little, because a
// batch holds thousands of flows; docs/adr/0001-wire-format.md has the figures. Layout:
//
//	"PLX"  version  compression  uvarint(length of the body before compression)  body
//
//	body:    uvarint(flows) uvarint(lost) tables columns lost-records
//	tables:  addresses, endpoints, nodes, drops, processes, strings, decisions; each uvarint(count) and its entries
//	columns: in the order of the column constants, each uvarint(length) and its bytes
//
// An empty column stands for zeros; that of the kinds is never left out. Ids into a table start at 1; 0 is nil or the empty
// string. Times and sequence numbers are differences to the flow before.
//
// Version 1 has no decisions: neither their table nor their column. A batch without any is still written so, and a relay
// that knows no more than version 1 reads it.
//
// A decoder refuses what it doesn't know and everything that is larger than the limits below. It allocates in proportion to the
// body that it has read, at worst 16 bytes for each (empty labels): no message takes more than 64 MiB.
package wire

import "errors"

// Version of the batch format. A relay reads every version up to its own; a change of layout makes a new one.
const Version = 2

// versionPlain is that of a batch without decisions.
const versionPlain = 1

// Limits of one batch. Encode returns ErrTooLarge beyond them, Decode ErrMalformed.
const (
	MaxFlows = 16384
	MaxLost  = 4096
	MaxBody  = 4 << 20 // bytes, before compression
)

// MaxPolicies bounds the policies that one decision names: many flows share a decision, and consumers look at each of its
// policies for each flow. Encode leaves out those beyond; a pod that so many policies isolate is not known to exist.
const MaxPolicies = 1024

var (
	// ErrTooLarge is returned by Encode for a batch beyond the limits: split it.
	ErrTooLarge = errors.New("batch too large for one message")
	// ErrMalformed is returned by Decode and the frame parsers for bytes that no encoder of this version makes.
	ErrMalformed = errors.New("malformed message")
	// ErrVersion is returned by Decode and ParseHello for a version that is newer than this program.
	ErrVersion = errors.New("message of an unknown version: upgrade the relay before its collectors")
)

const magic = "PLX"

// Values of the compression byte.
const (
	compressNone = 0
	compressS2   = 1
)

// column numbers the columns of a body. The order is the format: append, never reorder.
type column int

const (
	colTime         column = iota // zigzag difference to the flow before
	colStart                      // zigzag Time - Start
	colSrc                        // endpoint id
	colDst                        // endpoint id
	colNode                       // node id
	colDrop                       // drop id
	colProcess                    // process id
	colSrcAddr                    // address id
	colDstAddr                    // address id
	colPackets                    // uvarint
	colBytes                      // uvarint
	colReplyPackets               // uvarint
	colReplyBytes                 // uvarint
	colSeq                        // zigzag difference to the flow before
	colCookie                     // uvarint
	colRTT                        // uvarint
	colIfindex                    // uvarint
	colPID                        // uvarint
	colPorts                      // uvarint: source port << 16 | destination port, of each flow as a difference to the flow before (zigzag)
	colTCPFlags                   // byte
	colICMPType                   // byte
	colICMPCode                   // byte
	colProto                      // byte
	colKind                       // byte
	colVerdict                    // byte
	colPoint                      // byte
	colDirection                  // byte
	colFlags                      // byte: flagReply, flagSecondary, flagL7, flagProcessDst
	colPath                       // uvarint: number of hops
	colHops                       // rows: node id, zigzag Time (of the flow - its own), zigzag Time - Start, packets, bytes, ifindex, point, direction

	// One entry for each flow with flagL7.
	colL7Protocol    // byte
	colL7Operation   // string id
	colL7Resource    // string id
	colL7Host        // string id
	colL7Version     // string id
	colL7TraceParent // string id
	colL7UserAgent   // string id
	colL7Answers     // uvarint count, then string ids
	colL7Latency     // zigzag
	colL7Status      // uvarint
	colL7MinTTL      // uvarint
	colL7Flags       // byte: flagAnswered, flagError

	numPlainColumns // of versionPlain; those of L7 end here

	colPolicy column = iota - 1 // decision id
	numColumns
)

// Bits of colFlags.
const (
	flagReply = 1 << iota
	flagSecondary
	flagL7
	flagProcessDst
)

// Bits of colL7Flags.
const (
	flagAnswered = 1 << iota
	flagError
)

// block is how many flows are taken through all columns before the next ones: their records stay in the first-level cache.
const block = 128
