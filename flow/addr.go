package flow

import "net/netip"

// Addr is an IP address in 16 bytes, network byte order; IPv4 is held as an IPv4-mapped IPv6 address
// (RFC 4291 section 2.5.5.2). It is comparable, has no pointer and is the form in which the datapath reports addresses.
type Addr [16]byte

// AddrFrom converts a; a zone is dropped. The zero netip.Addr gives the zero Addr.
func AddrFrom(a netip.Addr) Addr {
	if !a.IsValid() {
		return Addr{}
	}
	return a.As16()
}

// Netip returns a as a netip.Addr with IPv4-mapped addresses unmapped. The zero Addr, which is also "::", gives "::".
func (a Addr) Netip() netip.Addr { return netip.AddrFrom16(a).Unmap() }

// Is4 reports whether a is an IPv4-mapped address.
func (a Addr) Is4() bool {
	return a[10] == 0xff && a[11] == 0xff &&
		a[0]|a[1]|a[2]|a[3]|a[4]|a[5]|a[6]|a[7]|a[8]|a[9] == 0
}

// IsZero reports whether a was never set.
func (a Addr) IsZero() bool { return a == Addr{} }

// String formats a as Netip does.
func (a Addr) String() string { return a.Netip().String() }
