package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const (
	defaultServer = "localhost:4245"
	defaultPort   = "4245"
)

// client is the connection of a command to an Observer server: a relay, a collector or one of Hubble's.
type client struct {
	server string
	*grpc.ClientConn
}

func registerServer(flags *pflag.FlagSet, server *string) {
	flags.StringVar(server, "server", defaultServer, "Observer API to ask: HOST:PORT or unix:///PATH")
}

// dial makes a client; the connection is made with the first call.
func dial(server string) (*client, error) {
	target := strings.TrimPrefix(server, "tcp://")
	if !strings.HasPrefix(target, "unix:") {
		if _, _, err := net.SplitHostPort(target); err != nil {
			target = net.JoinHostPort(strings.Trim(target, "[]"), defaultPort)
		}
		target = "passthrough:///" + target // as the system resolves it, without a proxy
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return nil, usageError{fmt.Errorf("--server %s: %w", server, err)}
	}
	return &client{server, conn}, nil
}

// explain turns an error of a call into what a person can act upon; nil stays nil, and so does the person's own end of it.
func (c *client) explain(ctx context.Context, err error) error {
	s, ok := status.FromError(err)
	switch {
	case err == nil || ctx.Err() != nil || errors.Is(err, context.Canceled):
		return nil
	case !ok:
		return err
	}
	switch message := s.Message(); s.Code() {
	case codes.Unavailable:
		switch {
		case strings.Contains(message, "connection error"), strings.Contains(message, "transport is closing"):
			return fmt.Errorf("cannot reach the relay at %s: is `parallax up` running? choose another with --server", c.server)
		case strings.Contains(message, "error reading from server"):
			return fmt.Errorf("the connection to %s broke: is `parallax up` still running?", c.server)
		}
		return fmt.Errorf("%s: %s", c.server, message)
	case codes.Canceled:
		return nil
	case codes.DeadlineExceeded:
		return fmt.Errorf("%s does not answer within %v: choose another with --server", c.server, callTimeout)
	case codes.InvalidArgument:
		return usageError{errors.New(message)}
	case codes.Unimplemented:
		return fmt.Errorf("%s cannot do this: %s", c.server, message)
	default:
		return fmt.Errorf("%s: %s", c.server, message)
	}
}

// isTerminal reports whether w is a terminal.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
