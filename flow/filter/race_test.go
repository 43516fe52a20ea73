//go:build race

package filter

// raced: the race detector makes sync.Pool drop what it holds at random, so that allocations cannot be counted.
const raced = true
