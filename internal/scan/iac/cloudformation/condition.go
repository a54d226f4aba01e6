package cloudformation

import "github.com/castellan-security/castellan/internal/scan/iac/tree"

// truth is what is known of a condition.
type truth uint8

const (
	perhaps truth = iota
	yes
	no
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// named is the truth of the condition of that name.
func (r *resolver) named(name string, depth int) truth {
	return r.condition(r.conditions[name], depth+1)
}

func (r *resolver) condition(n *tree.Node, depth int) truth {
	if r.work++; n == nil || r.work > maxWork || depth > maxDepth {
		return perhaps
	}
	if n.Kind == tree.Map && len(n.Fields) == 1 && n.Fields[0].Key == "Condition" {
		return r.named(n.Fields[0].Value.AsText().V, depth)
	}
	name, args := function(n)
	switch name {
	case "Condition":
		return r.named(args.AsText().V, depth)
	case "Equals":
		if parts := r.list(args, depth); len(parts) == 2 && parts[0].AsText().Known() && parts[1].AsText().Known() {
			return truthOf(parts[0].Text == parts[1].Text)
		}
	case "Not":
		switch r.condition(args.First(), depth+1) {
		case yes:
			return no
		case no:
			return yes
		}
	case "And":
		return r.all(args, depth, no)
	case "Or":
		return r.all(args, depth, yes)
	}
	return perhaps
}

// all is And, which one no decides, or Or, which one yes decides.
func (r *resolver) all(args *tree.Node, depth int, decides truth) truth {
	other := yes + no - decides
	result := other
	for _, a := range args.Each() {
		switch r.condition(a, depth+1) {
		case decides:
			return decides
		case perhaps:
			result = perhaps
		}
	}
	return result
}
