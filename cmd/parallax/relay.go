package main

import (
	"github.com/spf13/cobra"

	"github.com/parallax-flow/parallax/internal/lifecycle"
)

func newRelayCommand() *cobra.Command {
	var (
		o        relayOptions
		page     pageOptions
		logLevel string
		check    bool
	)
	cmd := &cobra.Command{
		Use:   "relay",
		Short: "Merge the flows of all collectors, store them, and serve them with the page",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLogger(logLevel)
			if err != nil {
				return err
			}
			o.names.allPods = true
			if err := o.validate(); err != nil || check {
				return err
			}
			r, err := newRelay(cmd.Context(), &o, log)
			if err != nil {
				return err
			}
			var p *pageProcess
			if page.listen != "" {
				if p, err = newPage(&page, r.live, r.store, r.status, log); err != nil {
					r.close()
					return err
				}
			}
			return storeClosed(r.store, runStack(cmd.Context(), log, func(stack *lifecycle.Stack) error {
				if p != nil {
					p.start(stack)
				}
				r.start(stack)
				return nil
			}))
		},
	}
	f := cmd.Flags()
	f.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	f.BoolVar(&check, "check", false, "validate the configuration and exit")
	f.StringVar(&page.listen, "ui-listen", "", "address of the page (default: none here, see parallax ui)")
	f.StringVar(&o.cluster, "cluster", "", "name of the cluster whose pods --kubernetes tells, as its collectors have it (default: that of all nodes)")
	o.register(f)
	o.names.register(f)
	seriesFlag(f, &o.series)
	return cmd
}
