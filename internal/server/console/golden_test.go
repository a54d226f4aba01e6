package console

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"
	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/store"
)

// lineOf is the nth secret of an image, as a line over images.
func lineOf(m consoletest.Image, n int) store.FindingLine {
	return store.FindingLine{Finding: m.Judged[n], Images: 5, Workloads: 2, In: []store.FindingImage{{ID: m.ID, Reference: m.Reference, Owner: consoletest.HostileName, Running: 2}}}
}

// TestGolden holds a few fragments to the byte: CASTELLAN_GOLDEN=write rewrites
// them (make golden); read the difference then.
func TestGolden(t *testing.T) {
	now := time.Date(2026, 11, 23, 14, 30, 20, 0, time.UTC)
	shop := consoletest.New(now)
	p := page{Now: now, files: &assets{base: "/static/0/"}}
	var procs []event.Running
	for _, r := range shop.Running {
		if r.WorkloadID == consoletest.Storefront {
			procs = append(procs, r)
		}
	}
	var hostile event.Event
	for _, e := range shop.Events {
		if e.WorkloadID == consoletest.Hostile && e.Exec != nil {
			hostile = e
		}
	}
	storefront := shop.Images[0]
	since, until := lastHour(now)
	for name, part := range map[string]templ.Component{
		"tree":            treePart(newTree(procs, true, consoletest.AgentID), now),
		"tree_silent":     treePart(newTree(nil, false, consoletest.AgentID), now),
		"hostile_row":     eventRow(p, hostile, eventFilter(nil), true),
		"isolation":       isolationPart(p, workloadData{Traits: isolation(shop.Workloads[5])}),
		"losses":          lossAlarm(p, shop.Agents[1].Losses),
		"file_rows":       filesPart(p, tabData{workloadData: workloadData{Workload: shop.Workloads[5]}, Files: byPath(sensed(shop, consoletest.Hostile)), Read: 1}),
		"name_rows":       namesPart(p, tabData{workloadData: workloadData{Workload: shop.Workloads[5]}, Names: byName(sensed(shop, consoletest.Hostile)), Read: 2, Cut: true}),
		"flow_rows":       flowsPart(p, tabData{workloadData: workloadData{Workload: shop.Workloads[0]}, Flows: someFlows(now), Window: flowWindows()[0]}),
		"map":             mapDrawing(newNetMap(someFlows(now), map[string]string{"h": "host-1"}, "")),
		"plot":            plotPart(plots(shop.Samples[:40], shop.Samples[0].Time, shop.Samples[40].Time)[1]),
		"image_layers":    layersPart(p, imageData{Layers: layersOf(storefront.Inside, storefront.Findings)}),
		"image_step":      findingGroups(p, grouped(storefront)),
		"image_hostile":   findingGroups(p, grouped(shop.Images[len(shop.Images)-1])),
		"weakness_row":    weaknessRow(p, store.Weakness{ID: "CVE-2024-21538", Severity: finding.Critical, Exploited: true, InUse: true, EPSS: 0.9432, Packages: []string{"lodash", consoletest.HostileName}, Fixed: []string{"lodash 4.17.21"}, Images: 1_200, Workloads: 3}),
		"acceptance":      acceptanceItem(p, store.Acceptance{ID: 4, Vulnerability: "CVE-2020-0001", Package: consoletest.HostileName, Image: storefront.ID, Reason: consoletest.HostileArg, By: "user:mira", Created: now.Add(-time.Hour), Expires: now.Add(48 * time.Hour)}, nil, true),
		"finding_row":     lineRow(p, findingKinds()[0], lineOf(storefront, 1)),
		"finding_hostile": lineRow(p, findingKinds()[0], lineOf(shop.Images[len(shop.Images)-1], 0)),
		"trend": trendPart(newTrend([]store.TrendDay{
			{Day: now.Truncate(24*time.Hour).AddDate(0, 0, -1), Severity: finding.High, Open: 2, New: 2},
			{Day: now.Truncate(24 * time.Hour), Severity: finding.High, Open: 1, Resolved: 1},
			{Day: now.Truncate(24 * time.Hour), Severity: finding.Low, Open: 30, New: 30},
		}, now.Truncate(24*time.Hour).AddDate(0, 0, 1-trendShown)), "Counted is what runs."),
		"chart_empty": chartPart(newChart(nil, since, until)),
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := part.Render(t.Context(), &b); err != nil {
				t.Fatal(err)
			}
			got := strings.ReplaceAll(b.String(), "><", ">\n<") + "\n"
			file := filepath.Join("testdata", name+".html")
			if os.Getenv("CASTELLAN_GOLDEN") == "write" {
				if err := os.MkdirAll("testdata", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, string(want)); diff != "" {
				t.Errorf("fragment (-got +want):\n%s", diff)
			}
		})
	}
}

// sensed are the events of one workload, newest first.
func sensed(shop consoletest.Shop, workload string) (out []event.Event) {
	for _, e := range slices.Backward(shop.Events) {
		if e.WorkloadID == workload {
			out = append(out, e)
		}
	}
	return out
}

// grouped is the view of what is wrong with an image of the shop.
func grouped(m consoletest.Image) imageData {
	d := imageData{Image: store.Image{ID: m.ID}, Read: len(m.Findings), Manages: true}
	d.group(m.Findings)
	return d
}
