package bpf

// The objects are the same bit for bit wherever they are built: paths in them are relative, DWARF is stripped.

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -type plx_flow_event -type plx_drop_event -type plx_payload_event -type plx_hdr -type plx_tuple -type plx_policy_record -type plx_policy_block -type plx_policy_rule -type plx_policy_service tcx tcx.bpf.c -- -O2 -mcpu=v3 -Wall -Wextra -Wpadded -Werror -Iheaders
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -no-global-types drop drop.bpf.c -- -O2 -mcpu=v3 -Wall -Wextra -Wpadded -Werror -Iheaders
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -no-global-types proc proc.bpf.c -- -O2 -mcpu=v3 -Wall -Wextra -Wpadded -Werror -Iheaders
