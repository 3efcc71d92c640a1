// What the losses of a few vectors are made of, for both devices: lengths and distances of
// losses/_maths/vectors.py.  All of it is computed in double, so that of float no square overflows or
// vanishes and no difference loses digits.  A row offers, of terms and slopes that are functions of the
// components at one place,
//
//     row.sums(term, ...)     the sum of each term over all places
//     row.write(slope, ...)   which writes the gradient with respect to each vector
//     row.note(status)

// The components of the vectors of a row at one place; those of vectors that it has not are unused.
struct Components {
    double first, second, third;
};
struct First {
    SHARED_METHOD double operator()(const Components& x) const { return x.first; }
};
struct Second {
    SHARED_METHOD double operator()(const Components& x) const { return x.second; }
};
struct Third {
    SHARED_METHOD double operator()(const Components& x) const { return x.third; }
};
#define AT_PLACE(...) [&](const Components& x) INLINED { return __VA_ARGS__; }

template <int N>
struct Sums {
    double items[N];
};

constexpr unsigned char ZERO_NORM = 3;

// Sums of squares between these have all their digits.  Others are summed once more, of components
// times a power of two.
constexpr double LEAST_SQUARES = 1e-280, MOST_SQUARES = 1e280;
constexpr double ENLARGING = 0x1p600, REDUCING = 0x1p-600;

// A component times `unit`, a power of two, over `size` is that of the direction.  Of float no unit is
// needed, and `inverse`, that of the size, is accurate enough; of double it is not: a vector of one
// component would have a direction that is not quite 1.  The length of a vector that holds infinity is
// NaN, and so is its direction.
constexpr bool HAS_UNITS = sizeof(T) == 8;
struct Length {
    double value, unit, size, inverse;
    bool is_zero;
    SHARED_METHOD double direction(double component) const {
        return HAS_UNITS ? component * unit / size : component * inverse;
    }
    SHARED_METHOD double shortened(double component) const {
        return HAS_UNITS ? component / size * unit : component * inverse;
    }
};

template <typename Row, typename Component>
SHARED Length length_of(const Row& row, double squares, Component component) {
    double unit = 1;
    if (!(squares > LEAST_SQUARES && squares < MOST_SQUARES)) {
        if (HAS_UNITS) unit = squares < 1 ? ENLARGING : REDUCING;
        squares = row.sums(AT_PLACE((component(x) * unit) * (component(x) * unit))).items[0];
    }
    const double size = sqrt(squares + (squares - squares));
    const double divisor = size == 0 ? 1 : size;
    return {size / unit, unit, divisor, 1 / divisor, size == 0};
}

// The distance of two vectors, where a number is added to each component of their difference.
template <typename Left, typename Right, bool IS_SQUARED>
struct Line {
    Left left;
    Right right;
    double more;
    Length length;

    SHARED_METHOD double apart(const Components& x) const { return left(x) - right(x) + more; }
    SHARED_METHOD double value() const {
        return IS_SQUARED ? length.value * length.value : length.value;
    }
    SHARED_METHOD double by_left(const Components& x) const {
        return IS_SQUARED ? 2 * apart(x) : length.direction(apart(x));
    }
    SHARED_METHOD double by_right(const Components& x) const { return -by_left(x); }
    SHARED_METHOD double root() const { return length.value; }
    SHARED_METHOD bool has_zero() const { return false; }
};

// How far the cosine of two vectors is from 1.  With s its sign, h = |v - s u|^2 / 2 is one minus its
// size, which the product tells as well where it is not small.
template <typename Left, typename Right>
struct Angle {
    Left left;
    Right right;
    Length left_length, right_length;
    double sign, near, product;

    SHARED_METHOD double u(const Components& x) const { return left_length.direction(left(x)); }
    SHARED_METHOD double v(const Components& x) const { return right_length.direction(right(x)); }
    SHARED_METHOD double apart(const Components& x) const { return v(x) - sign * u(x); }
    SHARED_METHOD bool has_zero() const { return left_length.is_zero || right_length.is_zero; }
    // One minus the cosine.
    SHARED_METHOD double value() const { return has_zero() ? 1 : product < 0 ? 2 - near : near; }
    SHARED_METHOD double cosine() const {
        return has_zero() ? 0 : near < 0.5 ? sign * (1 - near) : product;
    }
    SHARED_METHOD double by_left(const Components& x) const {
        const double turned = apart(x) + sign * near * u(x);
        return pick(has_zero(), 0.0, -left_length.shortened(turned));
    }
    SHARED_METHOD double by_right(const Components& x) const {
        const double turned = sign * near * v(x) - sign * apart(x);
        return pick(has_zero(), 0.0, -right_length.shortened(turned));
    }
    SHARED_METHOD double root() const { return value(); }
};

// A size of a product above 1 less this is computed from the vectors' difference.
constexpr double NEARLY_ALIKE = sizeof(T) == 4 ? 0x1p-10 : 0.25;

template <typename Row, typename Left, typename Right>
SHARED Angle<Left, Right> angle_of(const Row& row, Left left, Right right) {
    const Sums<3> found = row.sums(AT_PLACE(left(x) * left(x)), AT_PLACE(right(x) * right(x)),
                                   AT_PLACE(left(x) * right(x)));
    Angle<Left, Right> angle{left,
                             right,
                             length_of(row, found.items[0], left),
                             length_of(row, found.items[1], right),
                             1,
                             0,
                             0};
    const Length &one = angle.left_length, &other = angle.right_length;
    angle.product = one.unit == 1 && other.unit == 1
        ? found.items[2] * one.inverse * other.inverse
        : row.sums(AT_PLACE(angle.u(x) * angle.v(x))).items[0];
    angle.sign = angle.product < 0 ? -1 : 1;
    angle.near = 1 - angle.sign * angle.product;
    if (!(angle.near > NEARLY_ALIKE))
        angle.near = row.sums(AT_PLACE(angle.apart(x) * angle.apart(x))).items[0] / 2;
    return angle;
}

// The kinds of distances.
template <bool IS_SQUARED>
struct OfPoints {
    template <typename Row, typename Left, typename Right>
    static SHARED_METHOD Line<Left, Right, IS_SQUARED> between(
        const Row& row, Left left, Right right, double more) {
        Line<Left, Right, IS_SQUARED> line{left, right, more, {}};
        const double squares = row.sums(AT_PLACE(line.apart(x) * line.apart(x))).items[0];
        line.length = length_of(row, squares, AT_PLACE(line.apart(x)));
        return line;
    }
};
typedef OfPoints<false> Euclidean;
typedef OfPoints<true> SquaredEuclidean;
struct Cosine {
    template <typename Row, typename Left, typename Right>
    static SHARED_METHOD Angle<Left, Right> between(
        const Row& row, Left left, Right right, double) {
        return angle_of(row, left, right);
    }
};

// How much longer one distance is; infinite squares are compared by their roots.
template <typename One, typename Other>
SHARED double beyond(const One& one, const Other& other) {
    const bool are_infinite = one.value() - one.value() != 0 && one.value() == other.value();
    return are_infinite ? (one.root() - other.root()) * (one.root() + other.root())
                        : one.value() - other.value();
}
