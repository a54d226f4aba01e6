package incidents

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

const (
	// maxWeaknesses is how many an incident names, those first that deserve attention.
	maxWeaknesses = 10
	// maxWeakWorkloads is how many of its workloads are looked at, those first in which
	// it began.
	maxWeakWorkloads = 5
)

// fromOutside are techniques by which somebody comes in over the network.
var fromOutside = []string{"T1190", "T1210", "T1133"}

// weaknesses are the vulnerabilities of the images of an incident's workloads that may
// be how they came in: of the package whose program did it or started it, and those
// that can be used over the network where the container takes connections.
func (s *Service) weaknesses(ctx context.Context, i *threat.Incident) ([]threat.Weakness, error) {
	var all []fitting
	seen := map[string]bool{}
	for _, id := range i.Workloads[:min(len(i.Workloads), maxWeakWorkloads)] {
		w, err := s.Store.Workload(ctx, id)
		if fault.Is(err, fault.NotFound) || err == nil && (w.Image.ID == "" || seen[w.Image.ID]) {
			continue
		}
		if err != nil {
			return nil, err
		}
		seen[w.Image.ID] = true
		found, err := s.weaknessesOf(ctx, i, &w)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	slices.SortStableFunc(all, func(a, b fitting) int {
		return cmp.Or(cmp.Compare(b.weight(), a.weight()), cmp.Compare(b.Severity, a.Severity), cmp.Compare(a.ID, b.ID))
	})
	var out []threat.Weakness
	for k := range all[:min(len(all), maxWeaknesses)] {
		out = append(out, all[k].Weakness)
	}
	return out, nil
}

// fitting is a weakness, and how well it fits.
type fitting struct {
	threat.Weakness
	exploited, ran bool
}

func (f *fitting) weight() (n int) {
	if f.exploited {
		n += 2
	}
	if f.ran {
		n++
	}
	return n
}

func (s *Service) weaknessesOf(ctx context.Context, i *threat.Incident, w *asset.Workload) ([]fitting, error) {
	vs, err := s.Store.Vulnerabilities(ctx, store.VulnerabilityQuery{ImageID: w.Image.ID, Severity: finding.Medium, Limit: store.MaxPage})
	if err != nil || len(vs) == 0 {
		return nil, err
	}
	owners, err := s.owners(ctx, i, w)
	if err != nil {
		return nil, err
	}
	port := exposed(i, w)
	var out []fitting
	for k := range vs {
		v := &vs[k].Vulnerability
		f := fitting{exploited: v.KEV != nil, Weakness: threat.Weakness{ID: v.ID, Severity: v.Severity, Package: v.Package.FullName() + " " + v.Package.Version, Image: w.Image.Reference}}
		exe := owners[v.Package.Type+"/"+v.Package.FullName()]
		switch {
		case exe != "":
			f.ran = true
			f.Why = fmt.Sprintf("%s, which is of this package, is among the processes of what happened", exe)
		case port != "" && remote(v) && (v.InUse || f.exploited) && v.Severity >= finding.High:
			f.Why = fmt.Sprintf("it can be used over the network, the container takes connections at %s, and somebody came in from outside", port)
		default:
			continue
		}
		if f.exploited {
			f.Why += "; it is known to be exploited"
		}
		out = append(out, f)
	}
	return out, nil
}

// owners returns, by package, a program of it that is in the incident's tree.
func (s *Service) owners(ctx context.Context, i *threat.Incident, w *asset.Workload) (map[string]string, error) {
	programs := map[string]bool{}
	for k := range i.Processes {
		if n := &i.Processes[k]; n.WorkloadID == w.ID && n.Executable != "" {
			programs[n.Executable] = true
		}
	}
	owners := map[string]string{}
	if len(programs) == 0 {
		return owners, nil
	}
	inv, err := s.Store.Inventory(ctx, w.Image.ID)
	if fault.Is(err, fault.NotFound) {
		return owners, nil
	}
	if err != nil {
		return nil, err
	}
	for k := range inv.Packages {
		p := &inv.Packages[k]
		if exe := programOf(p, programs); exe != "" {
			owners[p.Type+"/"+p.FullName()] = exe
		}
	}
	return owners, nil
}

// programOf returns one of the programs that a package brought; "" for none.
func programOf(p *inventory.Package, programs map[string]bool) string {
	for _, f := range p.Files {
		if programs[f] {
			return f
		}
	}
	for _, at := range p.Places { // what is compiled into a program
		file, _, _ := strings.Cut(at.Path, "!")
		if programs[file] {
			return file
		}
	}
	return ""
}

// exposed returns where a container takes connections from outside, when somebody came
// in that way; else "".
func exposed(i *threat.Incident, w *asset.Workload) string {
	if !slices.Contains(i.Tactics, threat.InitialAccess) && !slices.ContainsFunc(i.Techniques, func(t string) bool { return slices.Contains(fromOutside, t) }) {
		return ""
	}
	for _, p := range w.Settings.Ports {
		if p.HostPort != 0 || w.Settings.NetworkMode == "awsvpc" {
			return fmt.Sprintf("port %d", p.Port)
		}
	}
	return ""
}

// remote says whether a vulnerability can be used over the network, as CVSS has it.
func remote(v *finding.Vulnerability) bool {
	return slices.ContainsFunc(v.Scores, func(s finding.Score) bool { return strings.Contains(s.Vector, "AV:N") })
}
