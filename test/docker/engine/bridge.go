package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// bridgeName is the name of the bridge of the engine in dir; folders differ, so
// the bridges of two engines do.
func bridgeName(dir string) string {
	const begin, longest = "cst", 15 // IFNAMSIZ less the closing zero
	suffix := strings.TrimPrefix(filepath.Base(dir), prefix)
	return begin + suffix[max(0, len(suffix)-(longest-len(begin))):]
}

// addBridge makes a bridge with a private network that no other device has.
func addBridge(ctx context.Context, name string) error {
	if err := ip(ctx, "link", "add", name, "type", "bridge"); err != nil {
		return err
	}
	taken, err := exec.CommandContext(ctx, "ip", "-o", "-4", "addr", "show").Output()
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for n := range 200 {
		network := fmt.Sprintf("10.213.%d.", n+20)
		if strings.Contains(string(taken), " "+network) {
			continue
		}
		if err := ip(ctx, "addr", "add", network+"1/24", "dev", name); err != nil {
			return err
		}
		return ip(ctx, "link", "set", name, "up")
	}
	return errors.New("no private network is free below 10.213")
}

func ip(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
