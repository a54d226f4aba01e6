package behaviour

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/link"
)

// Of more groups in force than a host holds those that run are held, and the others
// counted.
func TestMoreGroupsInForceThanAHostHolds(t *testing.T) {
	var h hosts
	h.init()
	now := time.Now()
	var ws []asset.Workload
	for i := range link.MaxHeldGroups + 8 {
		w := asset.Workload{ID: fmt.Sprintf("%064d", i), AgentID: "a", Group: asset.Group(fmt.Sprintf("shop/service-%04d/x", i)), State: asset.Running}
		ws = append(ws, w)
	}
	h.hear(ws, now)
	for i := range 3 {
		ws[i].State = asset.Exited
	}
	h.hear(ws, now)
	inForce := func(g asset.Group) bool { return !strings.HasPrefix(string(g), "shop/service-0005") }
	groups, cut := h.held("a", inForce, now)
	if len(groups) != link.MaxHeldGroups || cut != 7 { // one of eight is only learned from
		t.Errorf("%d groups are held, and %d are not", len(groups), cut)
	}
	for _, w := range slices.Concat(ws[:3], ws[5:6]) {
		if slices.Contains(groups, w.Group) {
			t.Errorf("%s has the place of one that runs and is in force", w.Group)
		}
	}
	h.expect("a", "shop/new/x", false, now)
	h.expect("a", "shop/protected/x", true, now)
	if all := h.on("a", now); slices.Contains(all, "shop/new/x") || !slices.Contains(all, "shop/protected/x") {
		t.Error("of groups that are about to start the one that people have decided of is taken, where there is no room")
	}
}
