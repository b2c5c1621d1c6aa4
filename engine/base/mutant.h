/* mutant.h: guards that `make mutants` can take away.
 *
 * HP_GUARD(name, cond) is `cond`. Built with -DHP_MUTANT_name it is always true,
 * as if the guard had been forgotten: then some test must go red. The names are
 * listed in tests/mutants.txt with the promise each one belongs to.
 */
#ifndef HP_BASE_MUTANT_H
#define HP_BASE_MUTANT_H

/* HP_MUTANT(name) is 1 when HP_MUTANT_name is defined as 1 (as -D does), else 0. */
#define HP_MUTANT_ARG_1 0,
#define HP_MUTANT_SECOND_(a, b, ...) b
#define HP_MUTANT_IS_(x) HP_MUTANT_SECOND_(x 1, 0, 0)
#define HP_MUTANT_CAT_(v) HP_MUTANT_IS_(HP_MUTANT_ARG_##v)
#define HP_MUTANT_VALUE_(v) HP_MUTANT_CAT_(v)
#define HP_MUTANT(name) HP_MUTANT_VALUE_(HP_MUTANT_##name)

#define HP_GUARD(name, cond) (HP_MUTANT(name) ? 1 : (cond))

#endif
