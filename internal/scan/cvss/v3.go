package cvss

import "math"

// metrics3 are those of versions 3.0 and 3.1, the base group first.
var metrics3 = []metric{
	{"AV", "N A L P"}, {"AC", "L H"}, {"PR", "N L H"}, {"UI", "N R"}, {"S", "U C"},
	{"C", "H L N"}, {"I", "H L N"}, {"A", "H L N"},
	{"E", "H F P U"}, {"RL", "U W T O"}, {"RC", "C R U"}, {"CR", "H M L"}, {"IR", "H M L"}, {"AR", "H M L"},
	{"MAV", "N A L P"}, {"MAC", "L H"}, {"MPR", "N L H"}, {"MUI", "N R"}, {"MS", "U C"},
	{"MC", "H L N"}, {"MI", "H L N"}, {"MA", "H L N"},
}

const base3 = 8

// Weights of version 3, in the order of metrics3.
var (
	vector3     = [...]float64{0.85, 0.62, 0.55, 0.2}
	complexity3 = [...]float64{0.77, 0.44}
	privileges3 = [...][3]float64{{0.85, 0.62, 0.27}, {0.85, 0.68, 0.5}} // scope unchanged, changed
	user3       = [...]float64{0.85, 0.62}
	impact3     = [...]float64{0.56, 0.22, 0}
)

// score3 is the base equation of section 7.1.
func score3(version, vector string) (Score, error) {
	var levels [22]int8
	if err := read(vector, metrics3, "X", levels[:]); err != nil {
		return Score{}, err
	}
	if err := whole(metrics3, levels[:], base3); err != nil {
		return Score{}, err
	}
	scope := levels[4]
	sub := 1 - (1-impact3[levels[5]])*(1-impact3[levels[6]])*(1-impact3[levels[7]])
	impact := 6.42 * sub
	if scope == 1 {
		impact = 7.52*(sub-0.029) - 3.25*math.Pow(sub-0.02, 15)
	}
	exploitability := 8.22 * vector3[levels[0]] * complexity3[levels[1]] * privileges3[scope][levels[2]] * user3[levels[3]]
	base := impact + exploitability
	if scope == 1 {
		base *= 1.08
	}
	if impact <= 0 {
		base = 0
	}
	return Score{version, roundUp(min(base, 10))}, nil
}

// roundUp is the definition of version 3.1 (appendix A), which is what version
// 3.0 means as well, but for errors of floating point.
func roundUp(x float64) float64 {
	n := int(math.Round(x * 100_000))
	if n%10_000 == 0 {
		return float64(n) / 100_000
	}
	return float64(n/10_000+1) / 10
}
