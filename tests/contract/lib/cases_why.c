/* why: one exact sentence for every cause. */
#include "contract.h"

TCase *contract_why(void)
{
	return tcase_create("why");
}
