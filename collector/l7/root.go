// Package l7 joins the application messages that the datapath saw into exchanges: a request with its response.
package l7
