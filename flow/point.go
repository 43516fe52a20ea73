package flow

// Opposite is the point at which packets of the other direction are seen in the same place: what comes from an endpoint one way goes to it
// the other way.
func (p Point) Opposite() Point {
	switch p {
	case PointToProxy:
		return PointFromProxy
	case PointToHost:
		return PointFromHost
	case PointToStack:
		return PointFromStack
	case PointToOverlay:
		return PointFromOverlay
	case PointToEndpoint:
		return PointFromEndpoint
	case PointToNetwork:
		return PointFromNetwork
	case PointToCrypto:
		return PointFromCrypto
	case PointFromProxy:
		return PointToProxy
	case PointFromHost:
		return PointToHost
	case PointFromStack:
		return PointToStack
	case PointFromOverlay:
		return PointToOverlay
	case PointFromEndpoint:
		return PointToEndpoint
	case PointFromNetwork:
		return PointToNetwork
	case PointFromCrypto:
		return PointToCrypto
	}
	return PointUnknown
}
