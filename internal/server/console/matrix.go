package console

import (
	"net/http"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/server/detections"
	"github.com/castellan-security/castellan/internal/threat"
)

// matrixData is what rules cover of MITRE ATT&CK: a column for each tactic.
type matrixData struct {
	Columns []matrixColumn
	Rules   int // that are on
	Covered int // techniques, those of the matrix for containers or others
	Missing int // of the matrix for containers
}

// matrixColumn is one tactic with its techniques.
type matrixColumn struct {
	Tactic threat.Tactic
	Cells  []matrixCell
}

// matrixCell is one technique in one tactic.
type matrixCell struct {
	ID, Name string
	Rules    int // that are on and look for it, or for a part of it
	Off      int // that are off or silenced
	Hits     uint64
}

// containerTechniques are those of ATT&CK's matrix for containers, by tactic, as of
// version 16: https://attack.mitre.org/matrices/enterprise/containers/. Parts of a
// technique count as it, so that T1552 stands for T1552.001 and T1552.007.
func containerTechniques() map[threat.Tactic][]string {
	return map[threat.Tactic][]string{
		threat.InitialAccess:       {"T1190", "T1133", "T1078"},
		threat.Execution:           {"T1609", "T1610", "T1053", "T1204"},
		threat.Persistence:         {"T1098", "T1136", "T1543", "T1133", "T1525", "T1053", "T1078"},
		threat.PrivilegeEscalation: {"T1098", "T1543", "T1611", "T1068", "T1053", "T1078"},
		threat.DefenseEvasion:      {"T1612", "T1610", "T1562", "T1070", "T1036", "T1550", "T1078"},
		threat.CredentialAccess:    {"T1110", "T1528", "T1552"},
		threat.Discovery:           {"T1613", "T1046", "T1069"},
		threat.LateralMovement:     {"T1550"},
		threat.Impact:              {"T1485", "T1499", "T1490", "T1498", "T1496"},
	}
}

// containerNames are the names of techniques of which rules have parts alone, or
// nothing: the table of package threat need not know them.
func containerNames() map[string]string {
	return map[string]string{
		"T1053": "Scheduled Task/Job", "T1070": "Indicator Removal", "T1078": "Valid Accounts", "T1098": "Account Manipulation", "T1110": "Brute Force",
		"T1133": "External Remote Services", "T1136": "Create Account", "T1204": "User Execution", "T1490": "Inhibit System Recovery", "T1496": "Resource Hijacking",
		"T1484": "Domain or Tenant Policy Modification", "T1498": "Network Denial of Service", "T1499": "Endpoint Denial of Service", "T1525": "Implant Internal Image", "T1528": "Steal Application Access Token",
		"T1543": "Create or Modify System Process", "T1550": "Use Alternate Authentication Material", "T1552": "Unsecured Credentials", "T1562": "Impair Defenses",
		"T1036": "Masquerading", "T1069": "Permission Groups Discovery", "T1609": "Container Administration Command", "T1610": "Deploy Container", "T1612": "Build Image on Host",
		"T1613": "Container and Resource Discovery", "T1505": "Server Software Component", "T1547": "Boot or Logon Autostart Execution", "T1553": "Subvert Trust Controls",
		"T1222": "File and Directory Permissions Modification", "T1087": "Account Discovery", "T1518": "Software Discovery", "T1560": "Archive Collected Data",
		"T1565": "Data Manipulation", "T1074": "Data Staged", "T1021": "Remote Services", "T1497": "Virtualization/Sandbox Evasion", "T1578": "Modify Cloud Compute Infrastructure",
		"T1056": "Input Capture",
	}
}

func (c *Console) matrix(w http.ResponseWriter, r *http.Request, v visit) error {
	all, err := c.Detections.Rules(r.Context(), v.who)
	if err != nil {
		return err
	}
	return c.show(w, r, http.StatusOK, matrixBody(c.page(r, v, "incidents", "Coverage of ATT&CK"), newMatrix(all), c.detectTabs(v)))
}

// newMatrix says what rules cover.
func newMatrix(all []detections.Rule) (d matrixData) {
	type place struct {
		tactic    threat.Tactic
		technique string
	}
	cells := map[place]*matrixCell{}
	var order []place
	at := func(t threat.Tactic, id string) *matrixCell {
		p := place{t, id}
		if cells[p] == nil {
			cells[p] = &matrixCell{ID: id, Name: techniqueName(id)}
			order = append(order, p)
		}
		return cells[p]
	}
	for _, t := range threat.Tactics() {
		for _, id := range containerTechniques()[t] {
			at(t, id)
		}
	}
	for i := range all {
		r := &all[i]
		if !r.Off {
			d.Rules++
		}
		var counted []place
		for k, id := range r.Techniques {
			base, _, _ := strings.Cut(id, ".")
			for _, t := range tacticsFor(r, base, k == 0) {
				if p := (place{t, base}); !slices.Contains(counted, p) {
					counted = append(counted, p)
					at(t, base).count(r)
				}
			}
		}
	}
	covered := map[string]bool{}
	for _, t := range threat.Tactics() {
		col := matrixColumn{Tactic: t}
		for _, p := range order {
			if p.tactic != t {
				continue
			}
			cell := *cells[p]
			col.Cells = append(col.Cells, cell)
			if cell.Rules > 0 {
				covered[cell.ID] = true
			} else {
				d.Missing++
			}
		}
		slices.SortStableFunc(col.Cells, func(a, b matrixCell) int { return b.Rules - a.Rules })
		d.Columns = append(d.Columns, col)
	}
	d.Covered = len(covered)
	return d
}

// count adds a rule to a cell.
func (c *matrixCell) count(r *detections.Rule) {
	c.Hits += r.Stats.Hits
	if r.Off {
		c.Off++
		return
	}
	c.Rules++
}

// tacticsFor are the tactics in which a rule covers a technique: its own, and those
// of the matrix for containers of which the technique is. A further technique, of
// another step of the attack, is in the tactics that are its own.
func tacticsFor(r *detections.Rule, base string, first bool) (all []threat.Tactic) {
	for _, t := range threat.Tactics() {
		if slices.Contains(containerTechniques()[t], base) {
			all = append(all, t)
		}
	}
	if first && !slices.Contains(all, r.Tactic) {
		all = append(all, r.Tactic)
	}
	if known, ok := threat.TechniqueOf(base); len(all) == 0 && ok {
		all = known.Tactics[:1]
	}
	return all
}

// techniqueName is what a technique is called; its id where that is not known.
func techniqueName(id string) string {
	if known, ok := threat.TechniqueOf(id); ok {
		return known.Name
	}
	return orElse(containerNames()[id], id)
}

// cellWords say how many rules look for a technique, and how often they fired.
func cellWords(x matrixCell) string {
	s := "no rule"
	if x.Rules > 0 {
		s = plural(x.Rules, "rule", "rules")
	} else if x.Off > 0 {
		s = plural(x.Off, "rule is", "rules are") + " off"
	}
	if x.Hits > 0 {
		s += ", fired " + times(x.Hits)
	}
	return s
}
